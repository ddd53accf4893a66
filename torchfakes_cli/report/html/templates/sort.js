"use strict";
// Makes the columns of the table sortable; without it the rows stay in the order of the scan.
const body = document.querySelector("tbody");
const heads = [...document.querySelectorAll("thead th")];
const keyOf = (row, column) => {
  const cell = row.children[column];
  return (cell.dataset.key ?? cell.textContent).trim();
};
heads.forEach((head, column) => {
  const button = document.createElement("button");
  button.textContent = head.textContent;
  head.replaceChildren(button);
  const numeric = head.classList.contains("number") || head.textContent === "verdict";
  button.addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending" || (numeric && !head.hasAttribute("aria-sort"));
    const sign = down ? -1 : 1;
    const rows = [...body.rows].sort((a, b) => {
      const [x, y] = [keyOf(a, column), keyOf(b, column)];
      if (x === "" || y === "") return (x === "") - (y === "");
      return sign * (numeric ? x - y : x.localeCompare(y, undefined, { numeric: true }));
    });
    heads.forEach((each) => each.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    body.append(...rows);
  });
});
