import { expect, test } from "../support/test.ts";

/** How a browser sees the end of a WebSocket that it closes itself. */
type Closed = { wasClean: boolean; code: number; reason: string; took: number };

const connect = "CONNECT\naccept-version:1.2\nheart-beat:0,0\n\n\0";

for (const path of ["/ws/chat", "/ws/chat/websocket", "/ws/chat/000/closing/websocket"]) {
  test(`a browser that closes ${path} is answered`, async ({ server, page }) => {
    await page.goto(`${server.address}/chat/room`);
    for (const say of [false, true]) {
      for (const [code, reason] of [[1000, "안녕"], [1000, ""], [3000, "3000"], [4999, ""], [undefined, ""]] as const) {
        const closed = await page.evaluate(
          ([path, frame, say, code, reason]) =>
            new Promise<Closed>((resolve) => {
              const socket = new WebSocket(`ws://${location.host}${path}`);
              let since = 0;
              const close = () => {
                since = performance.now();
                if (code === undefined) socket.close();
                else socket.close(code, reason);
              };
              const isSockJs = path.includes("/000/");
              socket.onopen = () => {
                if (say) socket.send(isSockJs ? JSON.stringify([frame]) : frame);
                else close();
              };
              socket.onmessage = ({ data }) => {
                if (say && data.includes("CONNECTED")) close();
              };
              socket.onclose = ({ wasClean, code, reason }) =>
                resolve({ wasClean, code, reason, took: performance.now() - since });
            }),
          [path, connect, say, code, reason] as const,
        );
        const { took, ...how } = closed;
        expect(how).toEqual({ wasClean: true, code: code ?? 1005, reason });
        expect(took).toBeLessThan(1_500);
      }
    }
  });
}
