"use strict";
// Shows the lists. Text reaches the page as text nodes only, so no passage can become markup.
const data = JSON.parse(document.getElementById("data").textContent);
const SYSTEMS = ["BM25", "Untrained", "Stage 1", "Stage 2"];
const TOP = 10, PAGE = 20, RANKS = 2;  // a row is passage, grade, then a rank for each system
const compare = {before: 1, after: 3};

// ---- Building blocks
function h(tag, attributes = {}, ...children) {
  const svg = tag === "svg" || tag === "path";
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null));
  return element;
}

const fold = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
const passage = (place) => {
  const [id, title, text] = data.passages[place];
  return {id, text, title: title || text.slice(0, 90) || id};
};
const titles = (places) => places.map((place) => data.passages[place].slice(0, 2).join(" "));
const signed = (value) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(3);
const change = (query) => query.scores[compare.after] - query.scores[compare.before];

function marked(text, words) {
  if (!words.length) return [text];
  const escaped = words.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  const parts = text.split(new RegExp(`(${escaped.join("|")})`, "gi"));
  return parts.map((part, i) => (i % 2 ? h("mark", {}, part) : part));
}

function reading(heading, text, words, kind = "") {
  return h("div", {class: `reading ${kind}`}, h("h3", {}, heading), h("p", {}, marked(text, words)));
}

function readPassage(heading, place, words, kind) {
  const {id, title, text} = passage(place);
  const box = reading(heading, text, words, kind);
  box.firstChild.after(h("h4", {}, marked(title, words), " ", h("span", {class: "id"}, id)));
  return box;
}

function choose(label, options, onchange) {
  const entries = options.map(([name, value], i) => h("option", {value: value ?? i}, name));
  return h("label", {}, label, h("select", {onchange}, entries));
}

// ---- One list: search, order, filter, items that are filled when they are opened
function browse(section, {items, search, orders, filters, extra = [], summary, body}) {
  const folded = new Map();  // made when first searched
  const haystack = (item) => {
    if (!folded.has(item)) folded.set(item, fold(search(item).join("\n")));
    return folded.get(item);
  };
  const input = h("input", {type: "search", autocomplete: "off", oninput: () => show(PAGE)});
  const order = choose("Order", orders.map(([name]) => [name]), () => show(PAGE));
  const filter = choose("Show", filters.map(([name]) => [name]), () => show(PAGE));
  const count = h("p", {class: "count", role: "status"});
  const list = h("div", {class: "list"});
  const more = h("button", {type: "button", class: "next", onclick: () => {
    const first = list.children.length;
    show(first + PAGE);
    list.children[first].firstChild.focus();
  }});
  section.append(
    h("div", {class: "tools"}, h("label", {class: "search"}, "Search", input), order, filter, extra),
    count, list, more,
  );

  function entry(item, words) {
    const details = h("details", {class: "item", "data-id": item.id, ontoggle: () => {
      if (details.open && details.children.length === 1) {
        details.append(h("div", {class: "body"}, body(item, words)));
      }
    }}, h("summary", {}, summary(item, words)));
    return details;
  }

  function show(most) {
    const words = input.value.trim().split(/\s+/).filter(Boolean);
    const wanted = words.map(fold);
    const keep = filters[filter.lastChild.value][1];
    const found = items.filter(keep).filter((item) =>
      wanted.every((word) => haystack(item).includes(word)));
    const sort = orders[order.lastChild.value][1];
    if (sort) found.sort((a, b) => sort(a) - sort(b));  // stable: else as in the file
    const start = most > PAGE ? list.children.length : 0;
    const entries = found.slice(start, most).map((item) => entry(item, words));
    if (start) list.append(...entries);
    else list.replaceChildren(...entries);
    count.textContent = found.length === items.length ? `${items.length} queries`
      : `${found.length} of ${items.length} queries`;
    if (!found.length) list.replaceChildren(h("p", {class: "empty"}, "Nothing matches."));
    more.hidden = found.length <= most;
    more.textContent = `Show ${Math.min(PAGE, found.length - most)} more`;
  }
  show(PAGE);
  return () => show(PAGE);
}

// ---- Test queries: the top ten before and after
function move(from, to) {
  if (!from) return ["new", "new in the ranking"];
  if (from === to) return ["=", "as before"];
  const steps = Math.abs(from - to);
  if (from > TOP) return [`▲ from ${from}`, `up from rank ${from}`];
  return from > to ? [`▲ ${steps}`, `up ${steps}`] : [`▼ ${steps}`, `down ${steps}`];
}

function gone(to) {
  if (!to) return ["→ out", "later out of the ranking"];
  return [`→ ${to}`, `later at rank ${to}`];
}

function ranking(query, side, pick) {
  const other = side === "before" ? "after" : "before";
  const here = RANKS + compare[side], there = RANKS + compare[other];
  const top = query.rows.filter((row) => row[here] && row[here] <= TOP);
  top.sort((a, b) => a[here] - b[here]);
  const rows = top.map((row) => {
    const [text, spoken] = side === "after" ? move(row[there], row[here]) : gone(row[there]);
    const {title} = passage(row[0]);
    const relevant = row[1] >= 1;
    return h("li", {}, h("button", {
      type: "button", class: relevant ? "hit relevant" : "hit", "data-place": row[0],
      "aria-pressed": "false", title,
      "aria-label": `${row[here]}. ${title}${relevant ? ", relevant" : ""}, ${spoken}`,
      onclick: () => pick(row), onmouseenter: light, onfocus: light, onmouseleave: light,
      onblur: light,
    }, h("span", {class: "rank"}, `${row[here]}`), relevant ? "✓" : null,
    h("span", {class: "name"}, title), h("span", {class: "move"}, text)));
  });
  const name = SYSTEMS[compare[side]];
  return h("div", {}, h("h3", {}, `${side === "before" ? "Before" : "After"}: ${name}`),
    rows.length ? h("ol", {}, rows) : h("p", {class: "empty"}, "Found nothing."));
}

function light(event) {
  const on = event.type === "mouseenter" || event.type === "focus";
  const place = event.currentTarget.dataset.place;
  for (const one of event.currentTarget.closest(".ranks").querySelectorAll("[data-place]")) {
    one.classList.toggle("same", on && one.dataset.place === place);
  }
}

function links(query) {
  const paths = [];
  for (const row of query.rows) {
    const before = row[RANKS + compare.before], after = row[RANKS + compare.after];
    const stays = [before, after].map((rank) => rank > 0 && rank <= TOP);
    if (!stays[0] && !stays[1]) continue;
    const [y, z] = [before, after].map((rank, i) => (stays[i] ? rank - 0.5 : TOP + 0.3));
    const names = [row[1] >= 1 ? "relevant" : "", stays[0] && stays[1] ? "" : "out"];
    paths.push(h("path", {
      class: names.join(" ").trim(), "data-place": row[0], "vector-effect": "non-scaling-stroke",
      d: `M0 ${y}C5 ${y} 5 ${z} 10 ${z}`,
    }));
  }
  paths.sort((a, b) => a.classList.contains("relevant") - b.classList.contains("relevant"));
  return h("svg", {class: "links", viewBox: `0 0 10 ${TOP}`, preserveAspectRatio: "none",
    "aria-hidden": "true"}, paths);
}

function standing(query) {
  const rank = (value) => h("td", {}, value ? `${value}` : "–");
  const head = SYSTEMS.map((name) => h("th", {scope: "col"}, name));
  const rows = query.rows.filter((row) => row[1] >= 1).map((row) => h("tr", {},
    h("th", {scope: "row"}, passage(row[0]).title), row.slice(RANKS).map(rank)));
  return h("div", {class: "scroll"}, h("table", {},
    h("caption", {}, "Ranks of what is relevant (–: not among the first 100)"),
    h("thead", {}, h("tr", {}, h("th", {scope: "col"}, "Passage"), head)),
    h("tbody", {}, rows,
      h("tr", {}, h("th", {scope: "row"}, "nDCG@10"),
        query.scores.map((score) => h("td", {}, score.toFixed(3)))))));
}

function tested(query, words) {
  const panel = h("div", {role: "status"});
  const ranks = h("div", {class: "ranks"});
  const pick = (row) => {
    const heading = row[1] >= 1 ? "Relevant passage" : "Not labelled relevant";
    panel.replaceChildren(readPassage(heading, row[0], words, row[1] >= 1 ? "good" : ""));
    for (const hit of ranks.querySelectorAll("button")) {
      hit.setAttribute("aria-pressed", hit.dataset.place === `${row[0]}`);
    }
  };
  ranks.append(ranking(query, "before", pick), links(query), ranking(query, "after", pick));
  pick(query.rows.find((row) => row[1] >= 1) ?? query.rows[0]);
  return [ranks, panel, standing(query)];
}

function testedSummary(query, words) {
  const moved = change(query);
  const kind = moved > 0 ? "win" : moved < 0 ? "loss" : "";
  return [
    h("span", {class: `tag ${kind}`}, moved ? signed(moved) : "same"),
    h("span", {class: "query"}, marked(query.text, words)),
    query.unseen ? null : h("span", {class: "tag", title: "its relevant passage was labelled in training"}, "seen"),
    h("span", {class: "id"}, query.id),
  ];
}

function startTested(section) {
  const pick = (side) => {
    const label = choose(side === "before" ? "Before" : "After",
      SYSTEMS.map((name) => [name]), (event) => {
        compare[side] = Number(event.target.value);
        refresh();
      });
    label.lastChild.value = compare[side];
    return label;
  };
  const refresh = browse(section, {
    items: data.tested.queries,
    search: (query) => [query.id, query.text, ...titles(query.rows.map((row) => row[0]))],
    orders: [
      ["Biggest win first", (query) => -change(query)],
      ["Biggest loss first", change],
      ["Best after first", (query) => -query.scores[compare.after]],
      ["Worst after first", (query) => query.scores[compare.after]],
      ["As in the file", null],
    ],
    filters: [
      ["All", () => true],
      ["Won", (query) => change(query) > 0],
      ["Lost", (query) => change(query) < 0],
      ["Unchanged", (query) => change(query) === 0],
      ["Unseen only", (query) => query.unseen],
    ],
    extra: [pick("before"), pick("after")], summary: testedSummary, body: tested,
  });
}

// ---- What the teacher wrote
const verdict = (query) => query.relabelled ? ["refused: now a hard negative", "loss"]
  : query.verdict === "yes" ? ["accepted", "win"] : query.verdict === "no" ? ["refused", "loss"]
  : query.positive ? ["no verdict", ""] : ["no positive", ""];

function startTaught(section) {
  browse(section, {
    items: data.taught.queries,
    search: (query) => [query.id, query.text, query.cot ?? "", query.positive ?? "",
      ...query.hard_negatives, ...query.labelled.map((place) => data.passages[place].join(" "))],
    orders: [["As in the file", null], ["Mixed", (query) => mixed(query.id)]],
    filters: [
      ["All", () => true],
      ["Accepted", (query) => query.verdict === "yes"],
      ["Refused", (query) => query.verdict === "no"],
      ["No verdict", (query) => query.verdict === null],
    ],
    summary: (query, words) => [
      h("span", {class: "query"}, marked(query.text, words)),
      h("span", {class: `tag ${verdict(query)[1]}`}, verdict(query)[0]),
      h("span", {class: "id"}, query.id),
    ],
    body: (query, words) => [
      h("div", {class: "texts"},
        query.cot ? reading("Chain of thought", query.cot, words) : null,
        query.positive ? reading("Synthetic positive", query.positive, words, "good") : null,
        query.labelled.map((place) => readPassage("Labelled passage", place, words, "good")),
        query.hard_negatives.map((text, i) => reading(
          query.relabelled && i === query.hard_negatives.length - 1 ? "Hard negative: the refused positive"
            : "Hard negative", text, words, "bad"))),
    ],
  });
}

function mixed(text) {  // a hash, so that neighbours of the file are parted; the same each time
  let value = 2166136261;
  for (const one of text) value = Math.imul(value ^ one.codePointAt(0), 16777619) >>> 0;
  return Math.imul(value ^ (value >>> 15), 2246822507) >>> 0;
}

function startWritten(section) {
  const kinds = [...new Set(data.written.queries.map((query) => query.kind))];
  browse(section, {
    items: data.written.queries,
    search: (query) => [query.id, query.text, query.kind, ...titles([query.passage])],
    orders: [["As in the file", null], ["Mixed", (query) => mixed(query.id)]],
    filters: [["All kinds", () => true],
      ...kinds.map((kind) => [kind, (query) => query.kind === kind])],
    summary: (query, words) => [
      h("span", {class: "query"}, marked(query.text, words)),
      h("span", {class: "tag"}, query.kind), h("span", {class: "id"}, query.id),
    ],
    body: (query, words) => [
      readPassage("Written for", query.passage, words, "good"),
      query.hard_negatives.map((place) => readPassage("Hard negative", place, words, "bad")),
    ],
  });
}

// ---- What the teacher preferred
function side(place, kind, words) {
  const {title, text} = passage(place);
  const word = {good: "✓ ", none: "", "": ""}[kind];
  const spoken = {good: "preferred", none: "undecided", "": "not preferred"}[kind];
  return h("li", {class: `side ${kind}`}, h("details", {},
    h("summary", {}, word, marked(title, words), " ", h("span", {class: "id"}, spoken)),
    h("p", {}, marked(text, words))));
}

function compared(query, words) {
  const wins = new Map();
  for (const [first, second, preferred] of query.pairs) {
    for (const place of [first, second]) if (!wins.has(place)) wins.set(place, 0);
    if (preferred) wins.set(preferred === 1 ? first : second, wins.get(preferred === 1 ? first : second) + 1);
  }
  const order = [...wins].sort((a, b) => b[1] - a[1]);
  return [
    h("ul", {class: "standing", "aria-label": "Wins of each passage"}, order.map(([place, won]) =>
      h("li", {class: "tag"}, `${passage(place).title}: ${won} won`))),
    query.pairs.map(([first, second, preferred]) => h("ul", {class: "versus"},
      [first, second].map((place, i) =>
        side(place, preferred === i + 1 ? "good" : preferred ? "" : "none", words)))),
  ];
}

function startCompared(section) {
  const undecided = (query) => query.pairs.filter((pair) => !pair[2]).length;
  browse(section, {
    items: data.compared.queries,
    search: (query) => [query.id, query.text, ...titles(query.pairs.flatMap((pair) => pair.slice(0, 2)))],
    orders: [["As in the file", null], ["Mixed", (query) => mixed(query.id)],
      ["Most undecided first", (query) => -undecided(query)]],
    filters: [["All", () => true], ["All decided", (query) => !undecided(query)],
      ["Some undecided", (query) => undecided(query) > 0]],
    summary: (query, words) => [
      h("span", {class: "query"}, marked(query.text, words)),
      h("span", {class: "tag"}, `${query.pairs.length - undecided(query)} of ${query.pairs.length} decided`),
      h("span", {class: "id"}, query.id),
    ],
    body: compared,
  });
}

// ---- Theme, keyboard, where we are
const theme = document.getElementById("theme");
const system = matchMedia("(prefers-color-scheme: dark)");
const stored = { // a page opened from a file may have no storage
  get: () => { try { return localStorage.getItem("theme"); } catch { return null; } },
  set: (value) => { try { localStorage.setItem("theme", value); } catch { /* not kept, then */ } },
};

function paint(name) {
  if (name) document.documentElement.dataset.theme = name;
  theme.setAttribute("aria-pressed", (name ?? (system.matches ? "dark" : "light")) === "dark");
}

theme.addEventListener("click", () => {
  const name = theme.getAttribute("aria-pressed") === "true" ? "light" : "dark";
  stored.set(name);
  paint(name);
});
system.addEventListener("change", () => paint(document.documentElement.dataset.theme));

const sections = [...document.querySelectorAll("main > section:not([hidden])")];
const current = () => sections.findLast((one) => one.getBoundingClientRect().top < innerHeight / 3)
  ?? sections[0];

function tellWhere() {
  for (const link of document.querySelectorAll("nav a")) {
    const here = link.hash === `#${current().id}`;
    if (here && !link.hasAttribute("aria-current")) {
      link.closest("ul").scrollLeft = link.offsetLeft - 60;  // a phone shows but some of them
    }
    if (here) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
}

function step(from, way) {
  const list = from.closest("section");
  const stops = [list.querySelector("input"), ...list.querySelectorAll(".item > summary")];
  stops[stops.indexOf(from) + way]?.focus();
}

document.addEventListener("keydown", (event) => {
  const at = event.target;
  const typing = at.matches("input, select, textarea");
  const stop = at.matches(".item > summary, .search input");
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/" && !typing) {
    const section = current().dataset.list ? current() : document.getElementById("queries");
    section.querySelector("input").focus();
  } else if (stop && event.key === "ArrowDown") step(at, 1);
  else if (stop && event.key === "ArrowUp") step(at, -1);
  else if (event.key === "Escape" && at.type === "search") {
    at.value = "";
    at.dispatchEvent(new Event("input"));
  } else return;
  event.preventDefault();
});

paint(stored.get());
const starts = {tested: startTested, taught: startTaught, written: startWritten, compared: startCompared};
for (const section of document.querySelectorAll("[data-list]:not([hidden])")) {
  starts[section.dataset.list](section);
}
document.addEventListener("scroll", tellWhere, {passive: true});
tellWhere();
