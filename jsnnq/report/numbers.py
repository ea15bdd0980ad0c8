"""How numbers are printed."""


def percent(fraction: float) -> str:
    """A share of one as a percentage, without the sign."""
    return f"{100 * fraction:.1f}"


def points(fraction: float) -> str:
    """A difference of shares in points, with its sign."""
    return f"{100 * fraction:+.1f}".replace("-", "−")


def times(ratio: float) -> str:
    """A multiple of the control."""
    return f"{ratio:.1f}×" if ratio < 9.95 else f"{ratio:.0f}×"


def distance(emd: float) -> str:
    """An EMD or a rate."""
    return f"{emd:.4f}"


def amount(number: float) -> str:
    """Three digits and a metric prefix."""
    for size, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, "")):
        if abs(number) >= 0.9995 * size:
            return f"{number / size:#.3g}".rstrip(".") + prefix
    return f"{number:.3g}"


def kib(bits: float) -> str:
    """A number of bits in KiB."""
    return f"{bits / 8192:,.1f}"
