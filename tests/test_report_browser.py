"""The report in a real browser: it loads, searches, sorts, turns dark, and obeys the keyboard."""

import shutil

import browser
import pytest
from project import inside, run_stage

from syntriever import paths
from syntriever.files import read_jsonl, write_jsonl

pytestmark = pytest.mark.skipif(browser.chromium() is None, reason=browser.MISSING)
NASTY = '</script><script>window.broken = 1</script><img src=x onerror="window.broken=1">'
FIRST = "document.querySelector('#queries .item')"
CHANGES = (
    "[...document.querySelectorAll('#queries .item .tag:first-child')].map(tag => tag.textContent)"
)


@pytest.fixture(scope="module")
def page(tmp_path_factory, finished_project):
    """The page of the finished project, with markup in a text and a written query."""
    folder = tmp_path_factory.mktemp("report") / "project"
    shutil.copytree(finished_project, folder)
    with inside(folder):
        records = list(read_jsonl(paths.VERIFIED))
        records[0] |= {"query": f"Markup {NASTY}", "cot": NASTY}
        write_jsonl(paths.VERIFIED, records)
        passage = next(read_jsonl(paths.COMPARISONS))["passage_1"]
        written = {"query_id": "w1", "query": "who wrote this", "passage_id": passage}
        write_jsonl(paths.WRITTEN, [written | {"kind": "direct", "hard_negatives": [passage]}])
        run_stage("report")
    return folder / "reports/index.html"


@pytest.fixture(scope="module")
def chromium():
    with browser.browser() as tab:
        yield tab


@pytest.fixture
def tab(chromium, page):
    """The page, freshly opened; in the end nothing has been complained of."""
    chromium.open(page)
    yield chromium
    assert chromium.faults == []
    assert chromium.asked == [page.resolve().as_uri()], "the page asks for nothing else"
    assert chromium.js("window.broken") is None


def select(tab, label, option):
    """Choose an option of the queries' list, as a person does."""
    tab.js(
        "{const s = [...document.querySelectorAll('#queries label')]"
        f".find(one => one.firstChild.data === '{label}').lastChild;"
        f"s.value = [...s.options].find(o => o.text === '{option}').value;"
        "s.dispatchEvent(new Event('change'))}"
    )


def numbers(tags):
    return [0.0 if tag == "same" else float(tag.replace("−", "-")) for tag in tags]


def test_all_opens(tab):
    """Every section lists something, and an item of each opens with its texts."""
    for section in ("queries", "teacher", "written", "comparisons"):
        item = f"document.querySelector('#{section} .item')"
        assert tab.js(f"{item}.children.length") == 1, "filled only when it is opened"
        tab.js(f"{item}.open = true")
        tab.wait(f"{item}.children.length === 2")
        text = tab.js(f"{item}.lastChild.innerText")
        assert len(text) > 50 and "[object" not in text and "undefined" not in text


def test_markup_is_shown_as_text(tab):
    """What looks like a script is read, not run."""
    item = "document.querySelector('#teacher .item')"
    tab.js(f"{item}.open = true")
    tab.wait(f"{item}.children.length === 2")
    assert NASTY in tab.js(f"{item}.innerText")


def test_search(tab):
    """All words are looked for, in any case, in all texts; hits are marked; none is said."""
    shown = "document.querySelectorAll('#teacher .item').length"
    count = "document.querySelector('#teacher .count').textContent"
    everything = tab.js(count)
    tab.js("document.querySelector('#teacher input').focus()")
    tab.type("MARKUP window.broken")
    assert tab.js(shown) == 1 and tab.js(count).startswith("1 of ")
    assert tab.js("document.querySelector('#teacher mark').textContent") == "Markup"
    tab.type(" nowhere-at-all")
    assert tab.js(shown) == 0
    assert "Nothing matches" in tab.js("document.getElementById('teacher').innerText")
    tab.press("Escape")
    assert tab.js(count) == everything


def test_order_and_filter(tab):
    """Wins first, losses first, won only; the chosen systems decide what a win is."""
    wins = numbers(tab.js(CHANGES))
    assert wins == sorted(wins, reverse=True) and len(wins) > 1
    select(tab, "Order", "Biggest loss first")
    losses = numbers(tab.js(CHANGES))
    assert losses == sorted(losses) and losses[0] <= wins[-1]
    select(tab, "Show", "Won")
    assert all(change > 0 for change in numbers(tab.js(CHANGES)))
    select(tab, "Show", "All")
    select(tab, "Before", "Stage 2")  # after, too: nothing moves
    assert set(tab.js(CHANGES)) == {"same"}


def test_before_and_after(tab):
    """An opened query shows two rankings, what is relevant in them, and the text of a hit."""
    tab.js(f"{FIRST}.open = true")
    tab.wait(f"{FIRST}.children.length === 2")
    headings = tab.js(f"[...{FIRST}.querySelectorAll('.ranks h3')].map(h => h.textContent)")
    assert headings == ["Before: Untrained", "After: Stage 2"]
    assert tab.js(f"[...{FIRST}.querySelectorAll('ol')].map(o => o.children.length)") == [10, 10]
    assert tab.js(f"{FIRST}.querySelectorAll('svg.links path').length") >= 10
    tab.js(f"{FIRST}.querySelectorAll('.hit')[3].click()")
    name = tab.js(f"{FIRST}.querySelectorAll('.hit .name')[3].textContent")
    assert name in tab.js(f"{FIRST}.querySelector('.reading').innerText")
    assert tab.js(f"{FIRST}.querySelectorAll('[aria-pressed=true]').length") in (1, 2)
    select(tab, "After", "Stage 1")
    tab.js(f"{FIRST}.open = true")
    tab.wait(f"{FIRST}.children.length === 2")
    assert "After: Stage 1" in tab.js(f"{FIRST}.innerText")


def test_keyboard(tab):
    """/ goes to the search, arrows between queries, Enter opens one."""
    focused = "document.activeElement"
    tab.press("/")
    assert tab.js(f"{focused}.type") == "search" and tab.js(f"{focused}.value") == ""
    tab.press("ArrowDown")
    assert tab.js(f"{focused} === {FIRST}.firstChild")
    tab.press("ArrowDown")
    tab.press("ArrowUp")
    tab.press("Enter")
    tab.wait(f"{FIRST}.open && {FIRST}.children.length === 2")
    tab.press("Tab")
    assert tab.js(f"{focused}.className").startswith("hit")
    assert tab.js(f"getComputedStyle({focused}).outlineStyle") != "none"
    tab.js("document.querySelector('nav a').focus()")
    tab.press("Tab")
    assert tab.js(f"{focused}.hash") == "#curves"


@pytest.mark.parametrize("dark", [False, True])
def test_dark_and_light(tab, page, dark):
    """The page follows the system, and the button turns it; both can be read."""
    tab.open(page, dark=dark)
    tab.js("localStorage.clear()")
    tab.open(page, dark=dark)
    assert (
        tab.js("document.getElementById('theme').getAttribute('aria-pressed')") == str(dark).lower()
    )
    before = tab.js("getComputedStyle(document.body).backgroundColor")
    assert contrast(tab) == []
    tab.js("document.getElementById('theme').click()")
    assert tab.js("getComputedStyle(document.body).backgroundColor") != before
    assert contrast(tab) == []
    tab.js("localStorage.clear()")


# WCAG 2.2, 1.4.3: 4.5 to 1 for text. Backgrounds here are opaque or none.
CONTRAST = """(() => {
  const canvas = Object.assign(document.createElement("canvas"), {width: 1, height: 1});
  const paint = canvas.getContext("2d", {willReadFrequently: true});
  const rgb = (colour) => {
    paint.clearRect(0, 0, 1, 1); paint.fillStyle = colour; paint.fillRect(0, 0, 1, 1);
    return [...paint.getImageData(0, 0, 1, 1).data];
  };
  const light = (colour) => {
    const [r, g, b] = rgb(colour).slice(0, 3).map((v) => v / 255)
      .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const poor = new Set();
  for (const element of document.querySelectorAll("body *")) {
    const texts = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!texts || !element.checkVisibility() || element.closest("script, style")) continue;
    let under = element;
    const ground = () => getComputedStyle(under).backgroundColor;
    while (under !== document.body && rgb(ground())[3] === 0) under = under.parentElement;
    const style = getComputedStyle(element);
    const ink = element.closest("svg") ? style.fill : style.color;
    const [high, low] = [ink, ground()].map(light).sort((a, b) => b - a);
    const ratio = (high + 0.05) / (low + 0.05);
    const name = `${element.tagName} ${element.getAttribute("class")}`;
    if (ratio < 4.5) poor.add(`${name} ${ratio.toFixed(2)}`);
  }
  return [...poor];
})()"""


def contrast(tab):
    """Open one of each kind, and return the texts with too little contrast."""
    tab.js("for (const s of document.querySelectorAll('main > section'))"
           " { const one = s.querySelector('.item'); if (one) one.open = true; }")  # fmt: skip
    tab.wait("[...document.querySelectorAll('.item[open]')].every(i => i.children.length === 2)")
    return tab.js(CONTRAST)


def test_on_a_phone(tab, page):
    """At 360 pixels nothing sticks out sideways, with an item of each kind open."""
    tab.open(page, width=360, height=740)
    for section in ("queries", "teacher", "written", "comparisons"):
        tab.js(f"document.querySelector('#{section} .item').open = true")
    tab.js("document.querySelectorAll('details.more').forEach(one => one.open = true)")
    tab.wait("[...document.querySelectorAll('.item[open]')].every(i => i.children.length === 2)")
    assert tab.js("document.documentElement.scrollWidth") == 360
    assert tab.js("[...document.querySelectorAll('nav a')].every(a => a.offsetHeight >= 24)")
