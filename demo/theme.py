"""Colours, type and layout of the page: system fonts, nothing fetched, light and dark alike.

The colours are the latency report's, so that its pictures fit in.
"""

from __future__ import annotations

from typing import Any

from ..profiler.page.style import DARK, LIGHT, RULES

_SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Arial", "DejaVu Sans", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace")

RULES_OF_DEMO = """
.gradio-container{width:100%!important;max-width:1240px!important;
margin:0 auto!important;padding:0 20px 32px!important}
.gradio-container>main,.gradio-container>main>.wrap{width:100%;max-width:none}
main.fillable{padding:0!important}
.gradio-container :is(.main,.wrap,.contain,.row,.column,.tabs,.tabitem){min-width:0}
.gradio-container>.main{width:100%;padding:0!important}
.gradio-container .html-container{padding:0!important}
.gradio-container .prose{max-width:none;color:var(--ink)}
.gradio-container .prose :is(h1,h2){letter-spacing:-.01em;margin:26px 0 8px}
.gradio-container .prose :is(h1){font-size:21px}.gradio-container .prose :is(h2){font-size:17px}
.gradio-container #md-card table{border-collapse:collapse;font-variant-numeric:tabular-nums;
border:0!important;display:block;overflow-x:auto;max-width:100%;font-size:13.5px}
.gradio-container :is(#md-card,.md-report) :is(thead,tbody,tr){border:0!important;
background:none!important}
.gradio-container #md-card :is(th,td){border:0!important;padding:6px 18px 6px 0!important;
border-bottom:1px solid var(--line)!important;text-align:left;word-break:normal;
overflow-wrap:normal}
.gradio-container #md-card table :is(th,td):first-child{white-space:nowrap}
.gradio-container #md-card th{white-space:nowrap}
.gradio-container .md-report table{display:table;border:0!important;margin:0!important}
.gradio-container .md-report :is(th,td){border:0!important;padding:7px 9px!important;
text-align:right!important;border-bottom:1px solid var(--line)!important}
.gradio-container .md-report
:is(:is(th,td):first-child,.words td,.names :is(th,td):nth-child(-n+4)){text-align:left!important}
.gradio-container .md-report tr:last-child td{border-bottom:0!important}
.gradio-container .md-report h3{margin:0 0 2px}
#md-latency{min-height:110px}#md-rows *{font-family:inherit}
.gradio-container #md-card th{color:var(--dim)!important;font-weight:600}
.gradio-container :is(p,figcaption).md-dim{color:var(--dim)!important;font-size:13px;
margin:8px 0 0;line-height:1.5}
footer .divider{display:none!important}
.md-head{display:flex;justify-content:space-between;align-items:flex-start;gap:12px 20px;
flex-wrap:wrap;padding:14px 0 2px}
.gradio-container .md-head h1{font-size:25px;line-height:1.2;margin:0;letter-spacing:-.012em;
font-weight:680;color:var(--ink);overflow-wrap:anywhere}
.gradio-container .md-head p.md-dim{margin:3px 0 0;font-size:14px}.md-head p b{color:var(--ink)}
.md-state{display:flex;align-items:center;flex-wrap:wrap;gap:8px 10px}
.md-chip{display:inline-block;border-radius:999px;padding:3px 11px;font-size:12.5px;font-weight:600;
background:var(--line);color:var(--ink);white-space:nowrap}
.md-chip.md-good{background:var(--pick);color:var(--good);box-shadow:inset 0 0 0 1px currentColor}
.md-chip.md-warn{background:var(--warn);box-shadow:inset 0 0 0 1px var(--warnline)}
.md-chip.md-bad{background:var(--badground);color:var(--bad);
box-shadow:inset 0 0 0 1px currentColor}
.gradio-container button.md-theme{width:36px;height:36px;border-radius:999px;padding:0;margin:0;
border:1px solid var(--line);cursor:pointer;background:var(--card);color:var(--ink);font-size:17px;
line-height:1;display:grid;place-items:center}
.md-theme:hover{border-color:var(--axis)}
.md-notice{border-radius:9px;padding:10px 14px;font-size:14px;margin:8px 0;overflow-wrap:anywhere;
background:var(--card);border:1px solid var(--line);border-left:4px solid var(--axis);
color:var(--ink)}
.md-notice.md-good{border-left-color:var(--good)}
.md-notice.md-warn{border-left-color:var(--warnline);background:var(--warn)}
.md-notice.md-bad{border-left-color:var(--bad);background:var(--badground)}
.md-good-ink{color:var(--good)}.md-warn-ink{color:var(--bad)}
.md-verdict{display:flex;gap:16px;align-items:center;margin:0 0 14px}
.md-said{font-size:19px;line-height:1.3;margin:0 0 4px;color:var(--ink)}.md-said b{font-size:23px}
.md-pixels{image-rendering:pixelated;border-radius:8px;border:1px solid var(--line);flex:none;
margin:0!important}
.md-answers{display:grid;gap:14px;grid-template-columns:1fr}
.md-answers.md-two{grid-template-columns:repeat(auto-fit,minmax(min(250px,100%),1fr))}
.md-card{background:var(--card);border:1px solid var(--line);border-radius:11px;padding:14px 16px;
min-width:0;color:var(--ink)}
.md-card header{display:flex;align-items:baseline;gap:8px;margin:0 0 10px;font-size:15px;
flex-wrap:wrap}
.md-role{font-size:11.5px;text-transform:uppercase;letter-spacing:.06em;color:var(--dim);
font-weight:650}
.md-card header b{overflow-wrap:anywhere}.md-card header>:last-child{margin-left:auto}
.md-time{font-variant-numeric:tabular-nums;color:var(--dim);font-size:13px;white-space:nowrap}
ol.md-bars{list-style:none!important;margin:0!important;padding:0!important;display:grid;gap:9px}
.md-bar{display:grid;grid-template-columns:1fr auto;gap:3px 10px;font-size:14px;margin:0!important;
padding:0!important;color:var(--ink)}
.md-bar::marker{content:""}
.md-label{overflow-wrap:anywhere}.md-number{font-variant-numeric:tabular-nums}
.md-track{grid-column:1/-1;height:7px;border-radius:4px;background:var(--line);overflow:hidden}
.md-track i{display:block;height:100%;min-width:1px;border-radius:4px;background:var(--c7);
transition:width .25s}
.md-bar:first-child .md-track i{background:var(--c0)}
.md-bar:first-child .md-label,.md-bar:first-child .md-number{font-weight:650}
.md-bar.md-true .md-label::after{content:" ✓";color:var(--good)}
.md-stages{margin:14px 0 0}
.md-stagebar{display:flex;height:7px;border-radius:4px;overflow:hidden;background:var(--line)}
.md-stagebar i{height:100%}
.md-s0{background:var(--c0)}.md-s1{background:var(--c2)}.md-s2{background:var(--c1)}
.md-keys{display:flex;flex-wrap:wrap;gap:4px 18px;margin-top:8px;font-size:13px;color:var(--dim)}
.md-keys span{display:inline-flex;align-items:center;gap:6px}
.md-keys b{color:var(--ink);font-variant-numeric:tabular-nums;font-weight:600}
.md-keys i{width:9px;height:9px;border-radius:2px}
.gradio-container .md-scroll table,.gradio-container .md-card table{display:table}
.md-scroll{overflow-x:auto;border:1px solid var(--line);border-radius:11px;background:var(--card);
margin:14px 0}
.md-table{border-collapse:collapse!important;width:100%;font-size:13.5px;color:var(--ink);
font-variant-numeric:tabular-nums;margin:0!important}
.md-table caption{caption-side:top;text-align:left;padding:10px 14px 4px;font-weight:600;
font-size:14px}
.gradio-container table.md-table,.gradio-container .md-table :is(thead,tbody,tr){
border:0!important;background:none!important}
.gradio-container .md-table :is(th,td){padding:7px 14px!important;border:0!important;
text-align:right;border-bottom:1px solid var(--line)!important;white-space:nowrap;
background:none!important}
.md-table tbody tr:last-child>*{border-bottom:0!important}
.gradio-container .md-table thead th{color:var(--dim)!important;font-weight:600;font-size:12.5px}
.gradio-container .md-table :is(th,td):first-child{text-align:left}
.gradio-container .md-names :is(th,td):nth-child(2){text-align:left}
.gradio-container td.md-strong{font-weight:700}.gradio-container td.md-ok span{color:var(--good)}
.gradio-container td.md-no{color:var(--bad);font-weight:650}
.gradio-container .md-gates :is(th,td){white-space:normal!important;text-align:left!important;
padding:6px 8px 6px 0!important;vertical-align:top}
.md-gates tbody th{font-weight:500}
.gradio-container .md-figures :is(th,td){padding:7px!important}
.md-needed{display:block;font-weight:500;font-size:12.5px}
.md-grid{display:grid;gap:14px;grid-template-columns:repeat(auto-fit,minmax(min(340px,100%),1fr));
align-items:start;margin:14px 0}
.md-tiles{display:flex;flex-wrap:wrap;gap:14px 38px;padding:6px 0 10px;color:var(--ink)}
.md-tiles b{display:block;font-size:22px;line-height:1.25;font-weight:650;
font-variant-numeric:tabular-nums}
.md-tiles span{color:var(--dim);font-size:13px}
.md-figure{margin:14px 0;background:var(--card);border:1px solid var(--line);border-radius:11px;
padding:12px 14px;max-width:640px}
.md-figure figcaption{color:var(--dim);font-size:13px;margin-top:6px}
.md-confusion{display:block;width:100%;height:auto}
.md-confusion text{fill:var(--ink);font-family:inherit}.md-confusion text.md-on{fill:var(--card)}
.md-cell{fill:none;stroke:var(--line);stroke-width:.6}
.md-hit{fill:var(--c0)}.md-miss{fill:var(--bad)}
.md-pad{display:grid;gap:10px;justify-items:center}
.md-pad canvas{width:min(280px,100%);aspect-ratio:1;border-radius:11px;border:1px solid var(--line);
background:#000;touch-action:none;cursor:crosshair}
.md-pad button{border:1px solid var(--line);background:var(--card);color:var(--ink);cursor:pointer;
border-radius:8px;padding:8px 18px;font-size:14px}
.md-pad button:hover{border-color:var(--axis)}
.gradio-container .md-folder button{width:100%;border:0;border-radius:var(--button-large-radius);
padding:7px;background:var(--button-secondary-background-fill);cursor:pointer;font-weight:600;
color:var(--button-secondary-text-color);font-size:var(--text-md)}
.gradio-container .md-folder button:hover{background:var(--button-secondary-background-fill-hover)}
.gradio-container .md-folder p:empty{display:none}
.md-empty{color:var(--dim);font-size:15px;padding:24px 0}
#md-image img{image-rendering:pixelated;object-fit:contain}
.md-gallery{display:grid;grid-template-columns:repeat(8,minmax(0,1fr));gap:7px;margin-top:8px}
.gradio-container .md-gallery button{padding:0!important;border:1px solid var(--line);margin:0;
border-radius:8px;overflow:hidden;cursor:pointer;background:none!important;aspect-ratio:1;min-width:0}
.gradio-container .md-gallery button:hover{border-color:var(--c0)}
.gradio-container .md-gallery img{width:100%;height:100%;object-fit:cover;border:0;border-radius:0;
display:block}
:is(button,a,input,select,canvas,[tabindex]):focus-visible{outline:3px solid var(--c0)!important;
outline-offset:2px}
footer{opacity:.75}
@media(max-width:560px){#md-image{height:170px!important}#md-answer{order:-1}
.gradio-container .tab-container button{padding:0 8px!important;
font-size:14px!important}
.gradio-container{padding:0 10px 24px!important}.md-head{padding-top:14px}
.md-head h1{font-size:21px}.md-said{font-size:17px}.md-said b{font-size:20px}}
@media(prefers-reduced-motion:reduce){*{transition:none!important;animation:none!important}}
"""

_BAD_LIGHT, _BAD_DARK = "--badground:#fdecea;", "--badground:#2c1614;"

# Runs before the page is drawn: the colours that the reader chose last, and the button for it.
_SCRIPT = """
(function(){
  const key="mldr-demo-colours";
  function apply(){const wanted=localStorage.getItem(key);
    if(wanted&&document.body)document.body.classList.toggle("dark",wanted==="dark")}
  document.addEventListener("click",function(event){
    if(!event.target.closest(".md-theme"))return;
    const dark=!document.body.classList.contains("dark");
    localStorage.setItem(key,dark?"dark":"light");apply()});
  const watch=new MutationObserver(apply);
  function begin(){
    watch.observe(document.body,{attributes:true,attributeFilter:["class"]});apply()}
  if(document.body)begin();else addEventListener("DOMContentLoaded",begin);
})();
"""


def head() -> str:
    """Style and script as part of the page's head: there before anything is drawn."""
    css = (
        f".gradio-container{{{LIGHT};{_BAD_LIGHT}}}"
        f".dark .gradio-container,.gradio-container.dark{{{DARK};{_BAD_DARK}}}"
        f"{RULES_OF_DEMO}.md-report{{{RULES}}}"
    )
    return f"<style>{css}</style><script>{_SCRIPT}</script>"


def theme() -> Any:
    """Gradio's own parts in the same colours."""
    import gradio

    base = gradio.themes.Base(
        primary_hue="blue",
        neutral_hue="slate",
        font=_SANS,
        font_mono=_MONO,
        radius_size="md",
    )
    return base.set(
        body_background_fill="#f4f5f7",
        body_background_fill_dark="#0f1216",
        body_text_color="#1b1f24",
        body_text_color_dark="#e6e9ed",
        body_text_color_subdued="#59636e",
        body_text_color_subdued_dark="#9aa4af",
        block_background_fill="#ffffff",
        block_background_fill_dark="#171b21",
        block_border_color="#dfe3e8",
        block_border_color_dark="#2a3038",
        border_color_primary="#dfe3e8",
        border_color_primary_dark="#2a3038",
        background_fill_primary="#ffffff",
        background_fill_primary_dark="#171b21",
        background_fill_secondary="#f4f5f7",
        background_fill_secondary_dark="#0f1216",
        block_label_text_color="#59636e",
        block_label_text_color_dark="#9aa4af",
        block_title_text_color="#1b1f24",
        block_title_text_color_dark="#e6e9ed",
        button_primary_background_fill="#2266b3",
        button_primary_background_fill_hover="#1b5494",
        button_primary_background_fill_dark="#3b7fca",
        button_primary_background_fill_hover_dark="#4d8fd8",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#ffffff",
    )
