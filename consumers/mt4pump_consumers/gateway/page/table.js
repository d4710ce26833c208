// A table of rows that change: sorted by its heads, one row in the tab order, at most LIMIT rows drawn.

const LIMIT = 500;

export class Table {
  // columns: {head, text(row), className(row), title(row), sort(row), total(rows), totalClass(rows), number, wide, wider,
  // group}; wide: hidden on phones; wider: hidden in narrow windows, too; group: a class of all its cells.
  constructor(table, columns, { key, empty, none }) {
    Object.assign(this, { table, columns, key, empty, none });
    this.rows = new Map(); // key → its <tr>
    this.sorting = { column: columns.find((column) => column.sort), sign: 1 };
    const head = table.createTHead().insertRow();
    this.heads = columns.map((column) => {
      const cell = head.appendChild(document.createElement("th"));
      cell.scope = "col";
      this.classify(cell, column);
      if (column.sort) {
        const button = cell.appendChild(document.createElement("button"));
        button.type = "button";
        button.textContent = column.head;
        button.onclick = () => this.sortBy(column);
      } else cell.textContent = column.head;
      return cell;
    });
    this.body = table.createTBody();
    if (columns.some((column) => column.total)) this.foot = table.createTFoot().insertRow();
    this.markSorting();
    rove(this.body);
  }

  classify(cell, column, extra) {
    const name = [column.number && "number", column.wide && "wide", column.wider && "wider", column.group, extra].filter(Boolean).join(" ");
    if (cell.className !== name) cell.className = name;
  }

  sortBy(column) {
    this.sorting = { column, sign: this.sorting.column === column ? -this.sorting.sign : 1 };
    this.markSorting();
    this.draw(this.last ?? []);
  }

  markSorting() {
    this.columns.forEach((column, i) => {
      if (column === this.sorting.column) this.heads[i].ariaSort = this.sorting.sign > 0 ? "ascending" : "descending";
      else this.heads[i].removeAttribute("aria-sort");
    });
  }

  draw(all) {
    this.last = all;
    const { column, sign } = this.sorting;
    const by = (a, b) => (column.sort(a) > column.sort(b) ? sign : column.sort(a) < column.sort(b) ? -sign : 0);
    const rows = (column ? [...all].sort(by) : all).slice(0, LIMIT);
    const held = document.activeElement, next = new Map();
    for (const row of rows) {
      const key = this.key(row), line = this.rows.get(key) ?? this.makeLine();
      this.columns.forEach((column, i) => this.fill(line.cells[i], column, row));
      next.set(key, line);
    }
    this.rows = next;
    const lines = [...next.values()];
    if (lines.length !== this.body.rows.length || lines.some((line, i) => line !== this.body.rows[i])) {
      this.body.replaceChildren(...lines);
      if (this.body.contains(held)) held.focus({ preventScroll: true }); // moving an element takes the focus from it
    }
    if (lines.length && !this.body.querySelector('[tabindex="0"]')) lines[0].tabIndex = 0;
    if (this.foot) this.total(all);
    this.empty.hidden = rows.length > 0;
    this.empty.textContent = this.none;
  }

  makeLine() {
    const line = document.createElement("tr");
    line.tabIndex = -1;
    for (const _ of this.columns) line.insertCell();
    return line;
  }

  fill(cell, column, row) {
    const text = String(column.text(row)), className = column.className?.(row) ?? "", title = column.title?.(row) ?? "";
    if (cell.textContent !== text) cell.textContent = text;
    this.classify(cell, column, className);
    if (cell.title !== title) cell.title = title;
  }

  total(rows) {
    this.foot.hidden = rows.length < 2;
    this.columns.forEach((column, i) => {
      const cell = this.foot.cells[i] ?? this.foot.insertCell();
      cell.textContent = column.total?.(rows) ?? "";
      this.classify(cell, column, column.totalClass?.(rows));
    });
  }
}

// One row is in the tab order; arrows, Home, End and the page keys move it. act(line, event) handles any other key.
export function rove(body, act = () => {}) {
  const shown = () => [...body.rows].filter((line) => !line.hidden);
  body.addEventListener("keydown", (event) => {
    const line = event.target.closest("tr");
    if (event.target !== line) return;
    const lines = shown(), at = lines.indexOf(line), page = Math.max(1, Math.floor(body.closest(".scroll").clientHeight / line.offsetHeight) - 1);
    const moves = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: lines.length - 1, PageDown: at + page, PageUp: at - page };
    if (!(event.key in moves)) return void act(line, event);
    event.preventDefault();
    const next = lines[Math.min(Math.max(moves[event.key], 0), lines.length - 1)];
    line.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
  body.addEventListener("focusin", ({ target }) => {
    const line = target.closest("tr");
    if (!line || line.tabIndex === 0) return;
    for (const other of body.querySelectorAll('tr[tabindex="0"]')) other.tabIndex = -1;
    line.tabIndex = 0;
  });
}
