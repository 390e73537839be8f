"""The page's style sheet: system fonts, two colour schemes, one to three columns.

``LIGHT`` and ``DARK`` are the colours, ``RULES`` all that uses them.
"""

LIGHT = """--bg:#f4f5f7;--card:#fff;--ink:#1b1f24;--dim:#59636e;--line:#dfe3e8;
--axis:#8b949e;--good:#1a7f37;--bad:#b42318;--warn:#fff6dd;--warnline:#e3b341;--pick:#eaf4ec;
--c0:#2266b3;--c1:#c2550a;--c2:#0b7a6f;--c3:#8a3fa0;--c4:#9a7400;--c5:#c02658;--c6:#55771b;--c7:#59636e;
--t0:#c9ced6;--t1:#8d99a8;--t2:#e3a008;--t3:#3b5b8c;--t4:#d0517a"""
DARK = """--bg:#0f1216;--card:#171b21;--ink:#e6e9ed;--dim:#9aa4af;
--line:#2a3038;--axis:#6b7580;--good:#4cc36b;--bad:#ff7b6e;--warn:#2b2412;--warnline:#8a6d1c;
--pick:#13241a;--c0:#66a8ef;--c1:#f0944d;--c2:#45bfb1;--c3:#c98be0;--c4:#d8b13c;--c5:#f2799f;
--c6:#a3c85c;--c7:#9aa4af;
--t0:#59636e;--t1:#8d99a8;--t2:#e3b341;--t3:#7fa6dd;--t4:#ef7fa5"""
RULES = """
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);
font:15px/1.5
system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,"DejaVu Sans",sans-serif}
main{max-width:1240px;margin:0 auto;padding:28px 20px 56px}
h1{font-size:26px;line-height:1.2;margin:0 0 6px;letter-spacing:-.01em}
h2{font-size:18px;margin:36px 0 12px}
h3{font-size:15px;margin:0 0 2px}
p{margin:0 0 10px;max-width:78ch}
.dim,.card>p,figcaption{color:var(--dim);font-size:13px}
.pick,.card,.warn{background:var(--card);border:1px solid var(--line);border-radius:10px}
.pick{padding:18px 20px;margin:22px 0 16px;border-left:5px solid var(--good);background:var(--pick)}
.pick.none{border-left-color:var(--bad)}
.pick strong{font-size:18px}
.tiles{display:flex;flex-wrap:wrap;gap:10px 34px;margin:14px 0 12px}
.tiles div{min-width:84px}.tiles b{display:block;font-size:23px;line-height:1.2;font-weight:650;
font-variant-numeric:tabular-nums;white-space:nowrap}.tiles span{color:var(--dim);font-size:13px}
.warn{background:var(--warn);border-color:var(--warnline);padding:10px 16px}
.warn ul{margin:0;padding-left:18px}.warn li{margin:3px 0;overflow-wrap:anywhere}
.grid{display:grid;gap:16px;grid-template-columns:repeat(auto-fit,minmax(min(340px,100%),1fr));
align-items:start}
.card{padding:14px 16px 12px;min-width:0}
.card>p{margin:0 0 8px}
svg{display:block;width:100%;max-width:460px;height:auto;margin:4px auto 0}
.legend{display:flex;flex-wrap:wrap;gap:2px 14px;font-size:12.5px;margin-top:8px;color:var(--dim)}
.legend span{display:inline-flex;align-items:center;gap:6px;overflow-wrap:anywhere}
.legend i{width:10px;height:10px;border-radius:2px;flex:none}
.scroll{overflow-x:auto;border:1px solid var(--line);border-radius:10px;background:var(--card)}
table{border-collapse:collapse;width:100%;font-size:13.5px;font-variant-numeric:tabular-nums}
th,td{padding:7px 12px;text-align:right;white-space:nowrap;border-bottom:1px solid var(--line)}
tr:last-child td{border-bottom:0}
th{color:var(--dim);font-weight:600}
th:first-child,td:first-child,.words td,.names :is(th,td):nth-child(-n+4){text-align:left}
.words td{white-space:normal;overflow-wrap:anywhere}
.words td:first-child{color:var(--dim);width:34%}
td.ok{color:var(--good)}td.no{color:var(--bad)}tr.best td{background:var(--pick)}
details{margin:12px 0}summary{cursor:pointer;font-weight:600;padding:6px 0}
text{font-family:inherit}
.tick{font-size:11.5px;fill:var(--dim)}.title{font-size:11.5px;fill:var(--ink);font-weight:600}
.label{font-size:12px;fill:var(--ink)}
svg line.grid{stroke:var(--line);stroke-width:1}svg line.axis{stroke:var(--axis)}
svg line.mark{stroke-width:2.5}svg line.thin{stroke-dasharray:3 2;stroke-width:1.5}
svg line.range{stroke-width:3;opacity:.55}
.curve{fill:none;stroke-width:2.2;stroke-linejoin:round}
.front{fill:none;stroke:var(--axis);stroke-width:1.5;stroke-dasharray:5 4}
.area{opacity:.42}.hollow{fill:var(--card)!important;stroke-width:2}.rest{fill:var(--axis)}
"""
RULES += "".join(f".t{k}{{fill:var(--t{k})}}i.t{k}{{background:var(--t{k})}}" for k in range(5))
RULES += "".join(
    f".c{k}{{fill:var(--c{k})}}i.c{k}{{background:var(--c{k})}}"
    f"svg .sc{k}{{stroke:var(--c{k})!important}}"
    for k in range(8)
)
CSS = (
    f":root{{color-scheme:light dark;{LIGHT}}}"
    f"@media(prefers-color-scheme:dark){{:root{{{DARK}}}}}{RULES}"
)
