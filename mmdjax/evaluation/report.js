// Tables sort by a column.
for (const button of document.querySelectorAll("th button")) {
  button.title = [button.title, "Sort by this column"].filter(Boolean).join(". ");
  button.onclick = () => {
    const th = button.parentNode, table = th.closest("table"), i = th.cellIndex;
    const rows = [...table.tBodies[0].rows], text = row => row.cells[i].textContent;
    const value = row => parseFloat(text(row)), words = !i || rows.every(row => isNaN(value(row)));
    const low = words || /↓/.test(button.textContent + table.caption.textContent);
    const was = th.getAttribute("aria-sort"), up = was ? was === "descending" : low;
    for (const other of th.parentNode.cells) other.removeAttribute("aria-sort");
    th.setAttribute("aria-sort", up ? "ascending" : "descending");
    const spell = (a, b) => text(a).localeCompare(text(b), "en", {numeric: true});
    const order = (a, b) => words ? spell(a, b) : value(a) - value(b);
    const dash = row => text(row) === "–" || !words && isNaN(value(row)) ? 1 : 0;
    const both = (a, b) => dash(a) - dash(b) || (up ? order(a, b) : order(b, a)) || 0;
    table.tBodies[0].append(...rows.sort(both));
  };
}

// Tables and commands are copied as text.
for (const button of document.querySelectorAll("[data-copy]")) {
  button.onclick = async () => {
    const label = button.textContent;
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
    } catch { // no permission, as in some browsers for a file
      const area = document.body.appendChild(document.createElement("textarea"));
      area.value = button.dataset.copy;
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    button.textContent = "Copied";
    setTimeout(() => button.textContent = label, 1200);
  };
}

// A name, in a legend or in a chart, hides its marks in all charts and shows them again; under the
// pointer the others fade. A double click shows one alone, or all.
const marks = [...document.querySelectorAll(".chart [data-of]")], hidden = new Set();
const show = () => {
  for (const mark of marks) {
    mark.classList.toggle("off", hidden.has(mark.dataset.of));
    if (mark.matches("button")) mark.ariaPressed = !hidden.has(mark.dataset.of);
  }
};
for (const name of marks.filter(m => m.matches("button") || m.querySelector(":scope > text"))) {
  const chart = name.closest("figure"), of = name.dataset.of;
  const own = marks.filter(m => chart.contains(m));
  name.onclick = () => {
    hidden.delete(of) || hidden.add(of);
    show();
  };
  name.ondblclick = () => {
    const others = own.map(m => m.dataset.of).filter(other => other !== of);
    const alone = others.every(other => hidden.has(other));
    hidden.clear();
    if (!alone) others.forEach(other => hidden.add(other));
    show();
  };
  const fade = on => () => {
    for (const m of own) m.classList.toggle("same", on && m.dataset.of === of);
    for (const svg of chart.querySelectorAll("svg")) svg.classList.toggle("lit", on);
  };
  name.onpointerenter = fade(true);
  name.onpointerleave = fade(false);
}

// The mark nearest to the pointer tells its value; of several in one place, the one on top.
const tip = document.querySelector(".tip"), NEAR = 26;
for (const svg of document.querySelectorAll(".chart svg")) {
  let places = null;
  const find = () => [...svg.querySelectorAll("[data-tip]:not(.off)")].flatMap(group => {
    const uses = group.querySelectorAll("use"), texts = JSON.parse(group.dataset.tip);
    const shapes = uses.length ? uses : group.querySelectorAll(":scope > path");
    return [...shapes].map((shape, i) => [shape.getBoundingClientRect(), group, texts[i]]);
  });
  const away = (box, x, y) => Math.hypot(
    Math.max(box.left - x, x - box.right, 0), Math.max(box.top - y, y - box.bottom, 0));
  svg.onpointerenter = () => places = null;
  svg.onpointerleave = () => tip.hidden = true;
  svg.onpointermove = svg.onpointerdown = event => {
    const {clientX: x, clientY: y} = event;
    places ??= find();
    let best = null, least = NEAR;
    for (const place of places) {
      const distance = place[2] ? away(place[0], x, y) : Infinity;
      if (distance <= least) [best, least] = [place, distance];
    }
    tip.hidden = !best;
    if (!best) return;
    const name = document.createElement("b");
    name.textContent = best[1].dataset.of;
    tip.replaceChildren(name, best[2]);
    const left = Math.min(x + 14, innerWidth - tip.offsetWidth - 8);
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${y + 18 + tip.offsetHeight > innerHeight ? y - tip.offsetHeight - 12 : y + 18}px`;
  };
}
addEventListener("scroll", () => tip.hidden = true, {passive: true});
