"""A button that uploads a folder with the names of its folders, which are the labels.

Gradio's own button keeps only the files' names. The browser does not send hidden files and those
that it knows to be no image; archive.py judges the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..serve.request_refusal import RequestRefusal

_TEMPLATE = (
    '<div class="md-folder"><button type="button">Upload a folder</button>'
    '<input type="file" webkitdirectory multiple hidden aria-label="Folder of images">'
    '<p class="md-dim" role="status"></p></div>'
)
_SCRIPT = """
const button=element.querySelector("button"),input=element.querySelector("input"),
  told=element.querySelector("p");
button.addEventListener("click",()=>input.click());
input.addEventListener("change",async()=>{
  const chosen=[...input.files]
    .filter(file=>/^(image\\/.*)?$/.test(file.type)||/\\.zip$/i.test(file.name))
    .filter(file=>!/(^|\\/)\\.(?!.*\\.icloud$)/.test(file.webkitRelativePath));
  const sent=new Array(chosen.length);let next=0,done=0;
  button.disabled=true;
  async function worker(){
    while(next<chosen.length){
      const place=next++,file=chosen[place],name=file.webkitRelativePath||file.name;
      try{sent[place]={name,path:(await upload(file)).path}}
      catch(error){sent[place]={name,path:""}}
      told.textContent=`${++done} of ${chosen.length} uploaded`}}
  await Promise.all(Array.from({length:4},worker));
  told.textContent="";button.disabled=false;input.value="";
  trigger("sent",{files:sent})});
"""


def folder_button() -> Any:
    """The component; its event ``sent`` carries ``files``, objects with ``name`` and ``path``.

    ``path`` is empty where a file was refused.
    """
    import gradio

    return gradio.HTML(html_template=_TEMPLATE, js_on_load=_SCRIPT, elem_id="md-folder")


def received(files: Sequence[Any], folder: Path) -> list[tuple[str, str | None]]:
    """(name, path) of the files in the event; None: it was refused on its way.

    A browser names these paths, so only what lies in ``folder``, where uploads lie, is taken.
    Raises RequestRefusal (400).
    """
    home = folder.resolve()
    paths: list[tuple[str, str | None]] = []
    for file in files:
        name, path = str(file.get("name", "")), str(file.get("path", ""))
        if path and not Path(path).resolve().is_relative_to(home):
            raise RequestRefusal(400, "path", f"{name!r} was not uploaded here")
        paths.append((name, path or None))
    return paths
