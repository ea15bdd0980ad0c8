"""The report page in a real headless Chromium, as a reader would open it."""

import re
import shutil

import pytest

from experiments.stompp.claims import CLAIMS
from jsnnq.report import page as pages
from jsnnq.report.comparisons import hold
from jsnnq.report.results import read
from tests.studies import HOSTILE, KNOWN_BINARY, ROWS, SMALL, binary_study, find, study

_CHROMIUM, _DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    _CHROMIUM is None or _DRIVER is None,
    reason="needs chromium and chromedriver (Debian: chromium, chromium-driver)",
)
_FLAGS = (
    "--headless --no-sandbox --disable-gpu --no-first-run --disable-sync "
    "--disable-background-networking --disable-component-update"
).split()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = _CHROMIUM
    for flag in (*_FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=_DRIVER)
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A study on synthetic data with one hostile name; its rows and its address."""
    results, firing, curves = study(ROWS[:13:2], SMALL, dataset="synthetic")
    find(results, ROWS[0][0])["name"] = HOSTILE
    out = tmp_path_factory.mktemp("page")
    pages.write(out, results, firing=firing, curves=curves)
    return results, (out / "report.html").as_uri()


@pytest.fixture
def opened(browser, page):
    """The page at the size of a laptop, in light colours, with scripts."""
    _set(browser, width=1280)
    browser.get(page[1])
    return browser


def _set(browser, width=1280, scheme="light", scripts=True):
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    feature = {"name": "prefers-color-scheme", "value": scheme}
    calls = {
        "Emulation.setDeviceMetricsOverride": size,
        "Emulation.setEmulatedMedia": {"features": [feature]},
        "Emulation.setScriptExecutionDisabled": {"value": not scripts},
    }
    for command, options in calls.items():
        browser.execute_cdp_cmd(command, options)


def _elements(browser, selector):
    return browser.find_elements("css selector", selector)


def _column(browser, number):
    cells = _elements(browser, f"#networks tbody tr > :nth-child({number})")
    return [cell.get_attribute("textContent") for cell in cells]


def test_opens_with_the_verdict_and_the_flag_and_without_complaints(opened):
    assert "SYNTHETIC DATA" in opened.title
    flag, verdict = _elements(opened, ".flag")[0], _elements(opened, ".verdict")[0]
    assert flag.is_displayed()
    assert "quantized networks the accuracy stays within 1 point" in verdict.text
    assert flag.location["y"] < verdict.location["y"] < 300
    assert opened.get_log("browser") == []


def test_shows_every_plot_with_words_and_asks_nobody(opened):
    shown = opened.execute_script(
        "return [...document.images].map(i => [i.complete, i.naturalWidth, i.alt])"
    )
    assert len(shown) == 6
    for complete, width, alt in shown:
        assert complete
        assert width > 1000
        assert ROWS[2][0] in alt
    loaded = opened.execute_script(
        "return performance.getEntriesByType('resource').map(e => e.name)"
    )
    assert [name for name in loaded if not name.startswith("data:")] == []


def test_lists_every_network_once(opened, page):
    rows = {row["name"] for row in page[0]["rows"]}
    names = _column(opened, 1)
    assert len(names) == len(rows)
    assert set(names) == rows


def test_a_hostile_name_is_text(opened):
    assert HOSTILE in _column(opened, 1)
    assert opened.execute_script("return window.hacked === undefined")
    assert len(_elements(opened, "script")) == 1


def test_a_click_on_a_heading_sorts_by_number_both_ways(opened):
    headings = _elements(opened, "#networks thead th")
    number = 1 + [heading.text for heading in headings].index("Against")
    button = headings[number - 1].find_element("css selector", "button")
    found = []
    for direction in ("ascending", "descending"):
        button.click()
        assert headings[number - 1].get_attribute("aria-sort") == direction
        cells = _column(opened, number)
        assert cells[-1] == "–"  # the float network has no control
        found.append([float(re.match(r"[0-9.]+", cell)[0]) for cell in cells[:-1]])
    assert found[0] == sorted(found[0])
    assert found[1] == sorted(found[1], reverse=True)
    assert found[0][-1] > 9  # 16 comes after 2, as numbers and not as words do


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_fits_phone_tablet_and_laptop(opened, width):
    _set(opened, width=width)
    body = opened.execute_script("return document.documentElement.scrollWidth")
    assert body <= width
    font = _elements(opened, ".verdict")[0].value_of_css_property("font-size")
    assert float(font.removesuffix("px")) >= 16
    narrowest = min(image.size["width"] for image in _elements(opened, "img"))
    assert narrowest >= 600  # smaller, the labels in a plot could not be read


def test_follows_light_and_dark(opened):
    seen = {}
    for scheme in ("light", "dark"):
        _set(opened, scheme=scheme)
        opened.refresh()  # a page that is open changes its pictures a little later
        seen[scheme] = opened.execute_script(
            "const style = getComputedStyle(document.body);"
            "return [style.backgroundColor, style.color,"
            " document.images[0].currentSrc.slice(-2000)]"
        )
    light, dark = (
        [sum(map(int, re.findall(r"\d+", colour)[:3])) / 765 for colour in each[:2]]
        for each in (seen["light"], seen["dark"])
    )
    assert light[0] > 0.9 > 0.2 > light[1]
    assert dark[0] < 0.1 < 0.8 < dark[1]
    assert seen["light"][2] != seen["dark"][2]


def test_works_with_scripts_off(browser, page):
    _set(browser, scripts=False)
    browser.get(page[1])
    assert _elements(browser, "#networks thead button") == []
    assert len(_elements(browser, "#networks tbody tr")) == 9
    assert all(image.size["height"] > 100 for image in _elements(browser, "img"))
    _set(browser)


@pytest.fixture(scope="module")
def binary_page(tmp_path_factory):
    """A study of binary networks, and its address."""
    paper = {"bnn-ste-r18": {"accuracy": 0.489, "grade": "S", "of": "CIFAR-100"}}
    rows = {**KNOWN_BINARY, "bwn-reverse-r18": [0.85, 0.95]}
    results, curves, looks = binary_study(accuracies=rows, paper=paper)
    results["claims"] = [one._asdict() for one in hold(read(results), CLAIMS)]
    out = tmp_path_factory.mktemp("binary")
    pages.write(out, results, firing={}, curves=curves, looks=looks)
    return (out / "report.html").as_uri()


def test_binary_networks_open_with_their_verdict_and_the_claims(browser, binary_page):
    _set(browser, width=1280)
    browser.get(binary_page)
    (verdict,) = _elements(browser, ".verdict")
    assert "StoMPP 66.0 %, +5.0 points on STE" in verdict.text
    cards = {card.text.splitlines()[0]: card for card in _elements(browser, ".reading")}
    assert list(cards) == ["Shows (3)", "Cannot be decided here (1)"]
    assert "BNN, ResNet-18: forward > global > reverse" in cards["Shows (3)"].text
    assert all(card.location["y"] < 800 for card in cards.values())
    assert browser.get_log("browser") == []
    text = browser.execute_script("return document.body.textContent")
    assert "EMD" not in text
    assert "CIFAR-100, S" in text


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pictures_of_binary_networks_are_shown(browser, binary_page, scheme):
    _set(browser, width=360, scheme=scheme)
    browser.get(binary_page)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 360
    images = _elements(browser, "img")
    assert len(images) == 5
    for image in images:
        assert image.get_property("naturalWidth") == 1190
        assert image.size["width"] >= 600
    _set(browser)
