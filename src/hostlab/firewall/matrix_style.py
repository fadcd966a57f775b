"""What the page of a matrix looks like, and how its cells tell more: CSS and a few lines of script.

Colour never stands alone: each state has a symbol and a word. Both colour schemes have a contrast
of at least 4.5 for text.
"""

from __future__ import annotations

from typing import Final

CSS: Final = """
:root { color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --ink: #1b2330; --soft: #5a6577; --line: #dfe3ea;
  --open: #dcf3e6; --open-ink: #11663a; --shut: #eef0f4; --shut-ink: #5a6577;
  --partly: #e3ecfb; --partly-ink: #24509a; --leak: #c62236; --leak-ink: #ffffff;
  --broken: #f6c244; --broken-ink: #3d2b00; --accent: #2c5fd1; --shadow: 0 1px 3px #1b233018; }
@media (prefers-color-scheme: dark) { :root {
  --page: #10141b; --card: #181e28; --ink: #e6eaf1; --soft: #9ba7b9; --line: #2b3442;
  --open: #143a28; --open-ink: #7fe0ab; --shut: #212936; --shut-ink: #94a1b4;
  --partly: #1b2f55; --partly-ink: #a3c4ff; --leak: #e2495b; --leak-ink: #14060a;
  --broken: #e0ac35; --broken-ink: #241900; --accent: #8db2ff; --shadow: 0 1px 3px #0008; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 28px 20px 80px; }
h1 { font-size: 26px; line-height: 1.2; margin: 0 0 4px; letter-spacing: -.01em; }
h2 { font-size: 18px; margin: 36px 0 12px; }
p { margin: 0 0 12px; } .soft { color: var(--soft); }
code, .rule { font: 13px/1.5 ui-monospace, "Cascadia Mono", "DejaVu Sans Mono", monospace;
  overflow-wrap: anywhere; }
a { color: var(--accent); }
.sums { display: flex; flex-wrap: wrap; gap: 10px; margin: 18px 0 0; padding: 0; list-style: none; }
.sums li { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 8px 14px; box-shadow: var(--shadow); }
.sums b { font-size: 20px; margin-right: 6px; font-variant-numeric: tabular-nums; }
.sums .bad { background: var(--leak); color: var(--leak-ink); border-color: var(--leak); }
.sums .good { background: var(--open); color: var(--open-ink); border-color: transparent; }
.diffs { display: grid; gap: 10px; padding: 0; margin: 0; list-style: none; }
.diffs > li { background: var(--card); border: 1px solid var(--line); border-left: 6px solid;
  border-radius: 10px; padding: 12px 16px; box-shadow: var(--shadow); }
.diffs > li.leak { border-left-color: var(--leak); }
.diffs > li.broken { border-left-color: var(--broken); }
.diffs h3 { font-size: 16px; margin: 0 0 4px; display: flex; flex-wrap: wrap; gap: 8px;
  align-items: center; }
.chip { color: inherit; text-decoration: none; font-weight: 500; font-size: 14px;
  background: var(--shut); border-radius: 999px; padding: 1px 10px; }
.chip:hover, .chip:focus-visible { outline: 2px solid var(--accent); }
.mark { display: inline-grid; place-items: center; min-width: 26px; height: 26px; padding: 0 6px;
  border-radius: 7px; font-weight: 700; font-size: 14px; line-height: 1; }
.open { background: var(--open); color: var(--open-ink); }
.shut { background: var(--shut); color: var(--shut-ink); }
.partly { background: var(--partly); color: var(--partly-ink); }
.mark.leak, a.leak { background: var(--leak); color: var(--leak-ink); }
.mark.broken, a.broken { background: var(--broken); color: var(--broken-ink); }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line);
  border-radius: 12px; box-shadow: var(--shadow); }
table.matrix { border-collapse: separate; border-spacing: 0; min-width: 100%; }
.matrix th { font-weight: 600; text-align: center; padding: 10px 8px; white-space: nowrap; }
.matrix thead th { color: var(--soft); font-size: 13px; border-bottom: 1px solid var(--line); }
.matrix tbody th { text-align: left; padding: 4px 14px; font-weight: 500; }
.matrix th:first-child { position: sticky; left: 0; background: var(--card); z-index: 1; }
.matrix .to th { text-align: left; padding: 14px 14px 4px; font-weight: 700; }
.matrix tbody + tbody .to th, .matrix tbody + tbody .to td { border-top: 1px solid var(--line); }
.matrix tbody tr:last-child > * { padding-bottom: 10px; }
.matrix thead th:not(:first-child) { width: 9%; }
.matrix td { padding: 3px; text-align: center; }
.matrix td a { display: grid; place-items: center; min-width: 44px; height: 36px;
  border-radius: 8px; font-weight: 700; text-decoration: none; }
.matrix td a:hover, .matrix td a:focus-visible { outline: 2px solid var(--accent);
  outline-offset: 1px; }
.none { color: var(--soft); opacity: .6; }
.legend { display: flex; flex-wrap: wrap; gap: 8px 18px; margin: 12px 0 0; padding: 0;
  list-style: none; font-size: 14px; }
.legend li { display: flex; gap: 8px; align-items: center; }
details { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  margin: 0 0 8px; box-shadow: var(--shadow); }
summary { cursor: pointer; padding: 10px 16px; font-weight: 600; }
summary .soft { font-weight: 400; }
.cell { border-top: 1px solid var(--line); padding: 10px 16px; scroll-margin: 20px; }
.cell:target { outline: 2px solid var(--accent); outline-offset: -2px; border-radius: 8px; }
.cell h4, #tip h4 { margin: 0 0 4px; font-size: 15px; display: flex; gap: 8px;
  align-items: center; }
.probes { margin: 0; padding: 0; list-style: none; display: grid; gap: 6px; }
.probes li { padding-left: 12px; border-left: 3px solid var(--line); }
.probes li.wrong { border-left-color: var(--leak); }
.probes .rule { color: var(--soft); }
#tip { position: fixed; z-index: 9; max-width: min(520px, calc(100vw - 16px)); display: none;
  background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 10px 14px;
  box-shadow: 0 8px 28px #0005; pointer-events: none; font-size: 14px; }
#tip .probes li:nth-child(n+4) { display: none; }
@media (max-width: 640px) {
  main { padding: 18px 12px 60px; } h1 { font-size: 22px; }
  .matrix thead th:not(:first-child) { writing-mode: vertical-rl; transform: rotate(180deg);
    text-align: left; padding: 8px 4px; height: 92px; }
  .matrix thead th { border: 0; }
  .matrix tbody th { padding: 4px 10px; } .matrix .to th { padding: 12px 10px 2px; }
}
@media print { #tip { display: none !important; } .scroll, details, li { break-inside: avoid; } }
"""
SCRIPT: Final = """
const tip = document.getElementById('tip');
const hide = () => { tip.style.display = 'none'; };
function show(event) {
  const cell = event.target.closest('td a');
  if (!cell) return hide();
  const found = document.getElementById(cell.hash.slice(1));
  tip.innerHTML = found.innerHTML;
  tip.style.display = 'block';
  const at = cell.getBoundingClientRect(), size = tip.getBoundingClientRect();
  const below = at.bottom + 8 + size.height < innerHeight;
  tip.style.top = Math.max(8, below ? at.bottom + 8 : at.top - 8 - size.height) + 'px';
  tip.style.left = Math.max(8, Math.min(at.left, innerWidth - size.width - 8)) + 'px';
}
function open() {
  const found = location.hash && document.getElementById(location.hash.slice(1));
  if (found) { found.closest('details').open = true; found.scrollIntoView(); }
}
document.addEventListener('mouseover', show);
document.addEventListener('focusin', show);
document.addEventListener('scroll', hide, true);
document.addEventListener('keydown', event => { if (event.key === 'Escape') hide(); });
addEventListener('hashchange', () => { hide(); open(); });
open();
"""
