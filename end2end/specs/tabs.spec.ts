import { makeRoom, said } from "../support/api.ts";
import { SOCKET_LOST, expect, test } from "../support/test.ts";
import { Talker } from "../support/talker.ts";

test.use({ provoked: new RegExp(`${SOCKET_LOST.source}|net::ERR_`) });
test.describe.configure({ timeout: 180_000 });

const TABS = 7;

for (const gathers of [true, false]) {
  test(`seven tabs without a WebSocket${gathers ? " or streams" : ""} leave one another room`, async ({
    server,
    cut,
    talker,
  }) => {
    cut.blockWebSocket();
    if (gathers) {
      cut.gather();
    }
    const first = await talker("영희", { at: cut.address });
    const context = first.page.context();
    const tabs = [first];
    while (tabs.length < TABS) {
      tabs.push(new Talker(await context.newPage(), "영희"));
    }
    /** How long the page takes for a plain request, in ms; it may only wait for a connection. */
    const healthz = ({ page }: Talker) =>
      page.evaluate(async () => {
        const begin = performance.now();
        const answer = await fetch("/healthz", { cache: "no-store" });
        await answer.text();
        return Math.round(performance.now() - begin);
      });
    const room = await makeRoom(server, "일곱 탭");
    // The first page brings the guest's cookie, which is the same for all of them.
    await first.enter(room, "detour");
    await Promise.all(tabs.slice(1).map((tab) => tab.enter(room, "detour")));
    const figures: string[] = [];
    const texts: string[] = [];
    for (const [index, speaker] of tabs.entries()) {
      const text = `${index + 1}번 탭`;
      texts.push(text);
      const begin = Date.now();
      await speaker.say(text);
      await Promise.all([
        ...tabs.map((tab) => expect(tab.bubbles).toHaveText(texts, { timeout: 3_000 })),
        healthz(tabs[(index + 3) % TABS]).then((took) => {
          figures.push(`healthz ${took} ms`);
          expect(took, "ms for a plain request").toBeLessThan(2_000);
        }),
      ]);
      figures.push(`seen by all after ${Date.now() - begin} ms`);
    }
    console.log(figures.join(", "));
    expect(await said(server, room)).toEqual(texts);
    // It stays so.
    await first.page.waitForTimeout(12_000);
    for (const tab of tabs) {
      await tab.is("detour");
      expect(await healthz(tab)).toBeLessThan(2_000);
    }
    await tabs[6].say("마지막");
    for (const tab of tabs) {
      await expect(tab.bubbles.last()).toHaveText("마지막", { timeout: 3_000 });
    }
    if (gathers) {
      return;
    }
    // Where tabs are closed the others take their room.
    for (const { page } of tabs.slice(0, 4)) {
      await page.close();
    }
    let rested = Date.now();
    tabs.slice(4).forEach(({ page }) =>
      page.on("request", (request) => {
        if (request.url().includes("wait_ms=0")) {
          rested = Date.now();
        }
      }),
    );
    const quietFor = () => Date.now() - rested;
    await expect.poll(quietFor, { timeout: 20_000, message: "ms without a short poll" }).toBeGreaterThan(4_000);
    await tabs[5].say("셋만 남았어요");
    for (const tab of tabs.slice(4)) {
      await expect(tab.bubbles.last()).toHaveText("셋만 남았어요", { timeout: 3_000 });
      await tab.is("detour");
    }
    // And all go back to WebSockets.
    cut.blockWebSocket(false);
    await Promise.all(tabs.slice(4).map((tab) => tab.page.evaluate(() => dispatchEvent(new Event("online")))));
    for (const tab of tabs.slice(4)) {
      await tab.is("online");
    }
    const left = await tabs[4].page.evaluate(() => Object.keys(localStorage).filter((key) => key.startsWith("tab-")));
    expect(left).toEqual([]);
  });
}
