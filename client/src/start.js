// Hydration takes the nodes of a page by their order alone, and what stands between the server and it
// (a proxy that rewrites HTML, a browser's translation or extension) may have put other nodes there. So
// the page is compared with the copy that came along, and where it differs it begins from the copy.
//
// The page has its HTML, an element `contents` with what it was made from, and an element `copy`. This
// stands at the end of the module's bindings; a second instance of them is for `start` to use.
const load = async (address) => {
  const client = await import(address);
  await client.default({ module_or_path: new URL("sarangbang_bg.wasm", import.meta.url) });
  return client;
};
const start = async () => {
  const { body } = document;
  const asSent = document.createElement("template");
  asSent.innerHTML = document.getElementById("copy").text;
  const shapeOf = (parent) => {
    let shape = "";
    for (const node of parent.childNodes) {
      if (node.id === "contents") {
        break;
      }
      shape += `${node.nodeName}(${shapeOf(node)})`;
    }
    return shape;
  };
  const fields = () => body.querySelectorAll("input, textarea");
  const beginFromCopy = () => {
    const { activeElement } = document;
    const { selectionStart, selectionEnd } = activeElement;
    const typed = [...fields()].map(({ id, value }) => [id, value]);
    while (body.firstChild.id !== "contents") {
      body.firstChild.remove();
    }
    body.prepend(asSent.content.cloneNode(true));
    for (const [id, value] of typed) {
      const field = document.getElementById(id);
      if (field) {
        field.value = value;
      }
    }
    const focused = document.getElementById(activeElement.id);
    focused?.focus();
    if (selectionStart != null) {
      focused?.setSelectionRange?.(selectionStart, selectionEnd);
    }
  };
  let client = await load("./sarangbang.js");
  if (shapeOf(body) !== shapeOf(asSent.content)) {
    beginFromCopy();
  }
  try {
    client.hydrate();
  } catch (error) {
    console.warn(error);
    client = await load("./sarangbang.js?again");
    beginFromCopy();
    client.hydrate();
  }
  // What was typed meanwhile is as if it were typed now.
  for (const field of fields()) {
    if (field.value) {
      field.dispatchEvent(new Event("input", { bubbles: true }));
    }
  }
};
if (!import.meta.url.endsWith("?again")) {
  start();
}
