"""What the page of a judgement looks like.

Colour never stands alone: each state has a sign and a word. Both colour schemes have a contrast of
at least 4.5 for text.
"""

from __future__ import annotations

from typing import Final

CSS: Final = """
:root { color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --ink: #1b2330; --soft: #5a6577; --line: #dfe3ea;
  --h: #dcf3e6; --h-ink: #11663a; --f: #c62236; --f-ink: #ffffff;
  --u: #f6c244; --u-ink: #3d2b00; --accent: #2c5fd1; --shadow: 0 1px 3px #1b233018; }
@media (prefers-color-scheme: dark) { :root {
  --page: #10141b; --card: #181e28; --ink: #e6eaf1; --soft: #9ba7b9; --line: #2b3442;
  --h: #143a28; --h-ink: #7fe0ab; --f: #e2495b; --f-ink: #14060a;
  --u: #e0ac35; --u-ink: #241900; --accent: #8db2ff; --shadow: 0 1px 3px #0008; } }
* { box-sizing: border-box; }
[hidden] { display: none !important; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
main { max-width: 1500px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 26px; line-height: 1.2; margin: 0 0 4px; letter-spacing: -.01em; }
h2 { font-size: 18px; margin: 32px 0 12px; }
h3 { font-size: 16px; margin: 0 0 6px; display: flex; flex-wrap: wrap; gap: 8px;
  align-items: center; overflow-wrap: anywhere; }
p { margin: 0 0 8px; } .soft { color: var(--soft); }
code, pre { font: 13px/1.5 ui-monospace, "Cascadia Mono", "DejaVu Sans Mono", monospace;
  overflow-wrap: anywhere; }
pre { background: var(--page); border: 1px solid var(--line); border-radius: 8px; margin: 0 0 8px;
  padding: 6px 10px; overflow-x: auto; max-height: 320px; }
.source span { display: block; white-space: pre; }
.source .here { background: var(--u); color: var(--u-ink); border-radius: 4px; }
.sums { display: flex; flex-wrap: wrap; gap: 10px; margin: 18px 0 0; padding: 0; list-style: none; }
.sums li { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 8px 14px; box-shadow: var(--shadow); }
.sums b { font-size: 20px; margin-right: 6px; font-variant-numeric: tabular-nums; }
.sums .bad { background: var(--f); color: var(--f-ink); border-color: var(--f); }
.sums .unsure { background: var(--u); color: var(--u-ink); border-color: var(--u); }
.sums .good { background: var(--h); color: var(--h-ink); border-color: transparent; }
.wrong { display: grid; gap: 10px; padding: 0; margin: 0; list-style: none; }
.wrong > li, aside { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  border-left: 6px solid var(--f); padding: 12px 16px; box-shadow: var(--shadow); min-width: 0; }
.wrong > li.u, aside.u { border-left-color: var(--u); }
aside.h { border-left-color: var(--h-ink); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 14px; margin: 0 0 8px; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
.mark { display: inline-grid; place-items: center; min-width: 26px; height: 26px; flex: none;
  border-radius: 7px; font-weight: 700; font-size: 14px; line-height: 1; }
.h { background: var(--h); color: var(--h-ink); }
.f { background: var(--f); color: var(--f-ink); }
.u { background: var(--u); color: var(--u-ink); }
.wrong > li.f, .wrong > li.u, aside.h, aside.f, aside.u { background: var(--card);
  color: var(--ink); }
.none { color: var(--soft); }
.controls { display: flex; flex-wrap: wrap; gap: 8px 20px; align-items: center; margin: 0 0 10px; }
input[type=search] { font: inherit; color: inherit; background: var(--card); padding: 5px 10px;
  border: 1px solid var(--line); border-radius: 8px; min-width: 240px; }
.split { display: flex; gap: 12px; align-items: flex-start; }
.scroll { overflow: auto; background: var(--card); border: 1px solid var(--line);
  border-radius: 12px; box-shadow: var(--shadow); max-height: 78vh; flex: 0 1 auto; min-width: 0; }
aside { flex: 0 0 min(460px, 42vw); position: sticky; top: 12px; max-height: 78vh;
  overflow: auto; }
aside button { float: right; font: inherit; border: 0; background: none; color: var(--soft);
  cursor: pointer; }
table { border-collapse: separate; border-spacing: 0; table-layout: fixed; }
thead th { position: sticky; top: 0; z-index: 2; background: var(--card); color: var(--soft);
  border-bottom: 1px solid var(--line); font-weight: 500; font-size: 13px; vertical-align: bottom;
  padding: 8px 0; }
thead th > span { writing-mode: vertical-rl; transform: rotate(180deg); max-height: 220px;
  overflow: hidden; text-overflow: ellipsis; white-space: nowrap; display: inline-block; }
tbody tr { height: 30px; }
tbody th { position: sticky; left: 0; z-index: 1; background: var(--card); text-align: left;
  font-weight: 500; padding: 0 14px; white-space: nowrap; overflow: hidden;
  text-overflow: ellipsis; }
thead th:first-child { left: 0; z-index: 3; text-align: left; padding: 8px 14px; }
tr.group th { color: var(--soft); font-weight: 700; font-size: 13px; }
td { padding: 1px 2px; text-align: center; }
td > span { display: grid; place-items: center; width: 34px; height: 26px; border-radius: 6px;
  font-weight: 700; font-size: 14px; cursor: pointer; margin: 0 auto; }
td:focus { outline: none; }
td:focus-visible > span, td > span:hover, td.open > span { outline: 2px solid var(--accent);
  outline-offset: 1px; }
summary { cursor: pointer; color: var(--soft); margin: 0 0 4px; }
.trace { margin: 0 0 8px; padding: 0; list-style: none; font-size: 14px; }
.trace b { color: var(--soft); font-weight: 500; font-variant-numeric: tabular-nums; }
#topology .segment { background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  border-top: 6px solid var(--accent); padding: 10px 14px; margin: 0 0 12px; display: flex;
  flex-wrap: wrap; gap: 6px; align-items: center; }
#topology h3 { flex: 0 0 100%; margin: 0; }
.node { font: inherit; font-size: 14px; border: 1px solid transparent; border-radius: 7px;
  padding: 2px 10px; cursor: pointer; }
.node:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.legend { display: flex; flex-wrap: wrap; gap: 8px 18px; margin: 12px 0 8px; padding: 0;
  list-style: none; font-size: 14px; }
.legend li { display: flex; gap: 8px; align-items: center; }
@media (max-width: 800px) { main { padding: 18px 12px 40px; }
  .split { display: block; } aside { position: static; max-height: none; margin-top: 10px; } }
@media print { .controls, .keys, aside { display: none !important; }
  .scroll { max-height: none; overflow: visible; border: 0; box-shadow: none; }
  .wrong > li { break-inside: avoid; } thead th, tbody th { position: static; } }
"""
