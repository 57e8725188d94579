// Tables can be sorted by a click on a heading; cells without a value stay last.
document.querySelectorAll("table.sortable").forEach(function (table) {
  const headings = Array.from(table.tHead.rows[0].cells);
  headings.forEach(function (heading, column) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = heading.textContent;
    heading.replaceChildren(button);
    button.addEventListener("click", function () {
      const isRising = heading.getAttribute("aria-sort") !== "ascending";
      headings.forEach(function (other) { other.removeAttribute("aria-sort"); });
      heading.setAttribute("aria-sort", isRising ? "ascending" : "descending");
      const body = table.tBodies[0];
      const rows = Array.from(body.rows).map(function (row) {
        const cell = row.cells[column];
        return { row: row, value: cell && !cell.classList.contains("error") ? cell.dataset.value : undefined };
      });
      const isNumber = heading.classList.contains("number");
      rows.sort(function (a, b) {
        if (a.value === undefined || b.value === undefined) {
          return (a.value === undefined) - (b.value === undefined);
        }
        const order = isNumber ? Number(a.value) - Number(b.value) : a.value.localeCompare(b.value);
        return isRising ? order : -order;
      });
      rows.forEach(function (entry) { body.append(entry.row); });
    });
  });
});
