// A click on a column header sorts its table: numbers by value, text alphabetically, missing values last.
for (const head of document.querySelectorAll("thead th")) {
  const button = document.createElement("button");
  button.append(...head.childNodes);
  head.append(button);
  button.addEventListener("click", () => {
    const body = head.closest("table").tBodies[0];
    const up = head.getAttribute("aria-sort") !== "ascending";
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const key = (row) => {
      const cell = row.cells[head.cellIndex];
      if (!cell || cell.colSpan > 1) return null;
      const text = cell.dataset.value ?? cell.textContent.trim().replaceAll(",", "");
      return text === "-" || text === "" ? null : isNaN(text) ? text : Number(text);
    };
    const compare = ([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      const order = typeof a === typeof b && typeof a === "number" ? a - b : String(a).localeCompare(String(b));
      return up ? order : -order;
    };
    body.append(...[...body.rows].map((row) => [key(row), row]).sort(compare).map(([, row]) => row));
  });
}
