"""A drawing area: a canvas that hands its picture over when the pen is lifted."""

from __future__ import annotations

from typing import Any

_PAD_TEMPLATE = (
    '<div class="md-pad"><canvas width="280" height="280" tabindex="0" role="img" '
    'aria-label="Drawing area for one digit: draw with mouse or finger"></canvas>'
    '<button type="button">Clear</button></div>'
)
_PAD_SCRIPT = """
const canvas=element.querySelector("canvas"),pen=canvas.getContext("2d");
let drawing=false,timer=null;
function clear(){pen.fillStyle="#000";pen.fillRect(0,0,280,280);pen.lineWidth=26;
  pen.lineCap=pen.lineJoin="round";pen.strokeStyle="#fff"}
function at(event){const box=canvas.getBoundingClientRect(),k=280/box.width;
  return [(event.clientX-box.left)*k,(event.clientY-box.top)*k]}
function tell(){clearTimeout(timer);timer=setTimeout(()=>{
  trigger("drawn",{picture:canvas.toDataURL("image/png")})},150)}
canvas.addEventListener("pointerdown",event=>{drawing=true;canvas.setPointerCapture(event.pointerId);
  pen.beginPath();pen.moveTo(...at(event));pen.lineTo(...at(event));pen.stroke()});
canvas.addEventListener("pointermove",event=>{if(!drawing)return;
  pen.lineTo(...at(event));pen.stroke();pen.beginPath();pen.moveTo(...at(event))});
canvas.addEventListener("pointerup",()=>{drawing=false;tell()});
canvas.addEventListener("pointercancel",()=>{drawing=false;tell()});
element.querySelector("button").addEventListener("click",()=>{clear();
  trigger("drawn",{picture:""})});
clear();
"""


def drawing_pad() -> Any:
    """The component; its event ``drawn`` carries ``picture``, a data URL, empty when cleared."""
    import gradio

    return gradio.HTML(
        html_template=_PAD_TEMPLATE, js_on_load=_PAD_SCRIPT, elem_id="md-pad", label="Drawing"
    )
