"""What the name of a row says: what is quantized in which network, and how.

Rows of a spiking study are called by place, quantizer, and what tells them from others
of it: `weights-uniform-clip10-4bit`. Rows of binary networks end with their network:
`bnn-stompp+ste-r50`, where *BNN* is binary in weights and activations and *BWN* in
weights only. Names are free: words that mean nothing here are kept as a detail.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

PLACES = ("weights", "membrane", "both")
"""What can be quantized in a spiking network: the first word of a row's name."""
BINARY_PLACES = ("bnn", "bwn")
"""What can be binary in a network without spikes."""
STEPPED = ("ste", "ste-identity", "stompp", "stompp+ste", "global", "reverse")
"""Ways to train binary networks, in the order of tables and plots."""
_NAME = (
    rf"(?:({'|'.join(PLACES)})-)?(.+?)(?:-clip([^-]+))?(?:-([0-9]+)bits?)?"
    "(?:-(finetuned))?"
)
_NETWORK = r"r[0-9]+|mobilenetv[0-9]+"
_METHODS = {
    "float": "float network",
    "control": "float network, fine-tuned",
    "lqnet": "LQ-Net",
    "snntorch": "snnTorch",
    "mint": "MINT",
    "ste": "STE",
    "ste-identity": "STE identity",
    "stompp": "StoMPP",
    "stompp+ste": "StoMPP+STE",
    "global": "StoMPP global",
    "reverse": "StoMPP reverse",
}


class Label(NamedTuple):
    """What a row's name says, for example `weights-uniform-clip10-4bit`."""

    place: str
    method: str
    detail: str
    clip: str
    bits: int | None
    network: str


def read(name: str, kind: str, network: Mapping[str, Any]) -> Label:
    """Takes a name apart.

    Args:
        name: of a row.
        kind: of a row; only what is quantized has a place and a quantizer.
        network: the row's config of its network, which says what the name does not.
    """
    known = str(network.get("name", ""))
    if is_spiking(network):
        return _read_spiking(name, kind, known)
    return _read_binary(name, kind, re.sub("^resnet(?=[0-9])", "r", known))


def is_spiking(network: Mapping[str, Any]) -> bool:
    """Whether a config of a network is that of a spiking one."""
    return "neuron" in network


def method(word: str) -> str:
    """A quantizer, or a kind of float network, in words."""
    return _METHODS.get(word, word)


def place(word: str) -> str:
    """What is quantized, as it is printed."""
    return word.upper() if word in BINARY_PLACES else word


def network(word: str) -> str:
    """A network as it is printed: `ResNet-18` for `r18`."""
    full = re.sub(r"^r([0-9]+)(?![0-9]| \()", r"ResNet-\1", word)
    return full.replace("mobilenetv", "MobileNetV")


def depth(word: str) -> int | None:
    """The number of layers in the name of a ResNet; None for other networks."""
    found = re.match(r"r([0-9]+)", word)
    return int(found[1]) if found else None


def tell_apart(word: str, traits: Mapping[str, Any], others: Iterable[Mapping]) -> str:
    """A network's name with what tells it from others that are called alike.

    Args:
        word: what the names of rows call it, `r18`.
        traits: its config.
        others: the configs of all networks that rows call so.
    """
    others = list(others)
    differ = [key for key in traits if len({str(each.get(key)) for each in others}) > 1]
    return ", ".join([word, *(f"{key} {traits[key]}" for key in differ)])


def _read_spiking(name: str, kind: str, network: str) -> Label:
    if kind != "quantized":
        return Label("", kind, "", "", None, network)
    parts = re.fullmatch(_NAME, name, re.DOTALL)
    found = parts.groups("") if parts else ("", name, "", "", "")
    place, words, clip, bits, tuned = found
    method, *details = words.split("-")
    detail = " ".join(filter(None, [*details, tuned]))
    return Label(place, method, detail, clip, int(bits or 0) or None, network)


def _read_binary(name: str, kind: str, network: str) -> Label:
    """The network is the word that its config gives it, else the last one."""
    words = name.split("-")
    if network in words[1:]:
        del words[len(words) - 1 - words[::-1].index(network)]
    elif len(words) > 1 and re.fullmatch(_NETWORK, words[-1]):
        # Experiments in small keep their names and not their networks.
        network = f"{words.pop()} ({network})"
    if kind != "quantized":
        return Label("", kind, " ".join(words[1:]), "", None, network)
    place = words.pop(0) if words[0] in BINARY_PLACES and len(words) > 1 else ""
    long = 2 if "-".join(words[:2]) in STEPPED else 1
    method, detail = "-".join(words[:long]), " ".join(words[long:])
    return Label(place, method, detail, "", None, network)
