// Shows the titles of points at once (the browser's own take a second and ignore the keyboard), sorts tables, and opens
// what is folded before printing.
(() => {
  const tip = document.getElementById('tip');
  const show = (point, x, y) => {
    tip.textContent = point.dataset.tip;
    tip.hidden = false;
    tip.style.left = Math.max(4, Math.min(x + 14, innerWidth - tip.offsetWidth - 6)) + 'px';
    tip.style.top = Math.max(4, Math.min(y + 14, innerHeight - tip.offsetHeight - 6)) + 'px';
  };
  for (const point of document.querySelectorAll('.point')) {
    const title = point.querySelector('title');
    if (!title) continue;
    point.dataset.tip = title.textContent;
    point.setAttribute('aria-label', title.textContent);
    title.remove();
    point.addEventListener('mousemove', event => show(point, event.clientX, event.clientY));
    point.addEventListener('mouseleave', () => { tip.hidden = true; });
  }
  for (const table of document.querySelectorAll('table.sortable')) {
    table.querySelectorAll('th').forEach((head, column) => {
      const button = document.createElement('button');
      button.textContent = head.textContent;
      head.replaceChildren(button);
      button.addEventListener('click', () => {
        const down = head.getAttribute('aria-sort') === 'ascending';
        table.querySelectorAll('th').forEach(other => other.removeAttribute('aria-sort'));
        head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
        const key = row => { const cell = row.cells[column]; return cell.dataset.value !== undefined ? Number(cell.dataset.value) : cell.textContent; };
        const body = table.tBodies[0];
        const rows = [...body.rows].sort((a, b) => { const x = key(a), y = key(b);
          return typeof x === 'number' && typeof y === 'number' ? x - y : String(x).localeCompare(String(y), undefined, {numeric: true}); });
        body.append(...(down ? rows.reverse() : rows));
      });
    });
  }
  addEventListener('beforeprint', () => document.querySelectorAll('details').forEach(one => { one.open = true; }));
  document.documentElement.dataset.ready = 'yes';
})();
