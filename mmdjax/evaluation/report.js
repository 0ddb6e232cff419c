for (const button of document.querySelectorAll("th button")) {
  button.title = "Sort by this column";
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
