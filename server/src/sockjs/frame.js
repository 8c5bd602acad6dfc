// Loads into the page for frames the sockjs-client that its page has: the two must be of one version. The
// page tells its version to a frame that says that it is there; so sockjs-client's own frames begin, and
// the one that is loaded does it again.
(() => {
  const here = document.currentScript.src;
  const windowId = location.hash.slice(1);
  const told = ({ source, data }) => {
    try {
      const message = source === parent && JSON.parse(data);
      return message.windowId === windowId && message.type === "s" && JSON.parse(message.data)[0];
    } catch {
      return undefined;
    }
  };
  const hear = (event) => {
    const version = told(event);
    if (typeof version !== "string" || !/^[\w.-]+$/.test(version)) {
      return;
    }
    removeEventListener("message", hear);
    const script = document.createElement("script");
    script.src = new URL(`sockjs-${version}.js`, here);
    script.onerror = () => console.error(`this server has no sockjs-client ${version} for its frames`);
    document.head.append(script);
  };
  addEventListener("message", hear);
  parent.postMessage(JSON.stringify({ windowId, type: "s", data: "" }), "*");
})();
