import { makeRoom, said } from "../support/api.ts";
import { SOCKET_LOST, expect, test } from "../support/test.ts";

test.use({ provoked: new RegExp(`${SOCKET_LOST.source}|net::ERR_`) });
test.describe.configure({ timeout: 120_000 });

test("where WebSocket is blocked one talks all the same, and turns back once it is not", async ({
  server,
  cut,
  talker,
}) => {
  const room = await makeRoom(server, "돌아가는 길");
  cut.blockWebSocket();
  const office = await (await talker("영희", { at: cut.address })).enter(room, "detour");
  await expect(office.connection).toBeVisible();
  await expect(office.connection).toContainText("다른 방식으로 연결했습니다");
  const home = await (await talker("철수")).enter(room);
  await office.say("사무실입니다");
  await home.sees(["사무실입니다"]);
  await home.say("집입니다");
  await office.sees(["사무실입니다", "집입니다"]);
  await office.allStored(1);
  // While it is tried again nothing changes for whoever talks.
  const states: string[] = [];
  await office.page.exposeFunction("noteState", (state: string) => states.push(state));
  await office.page.evaluate(() => {
    const connection = document.getElementById("connection")!;
    new MutationObserver(() => (window as any).noteState(connection.dataset.state)).observe(connection, {
      attributeFilter: ["data-state"],
    });
  });
  cut.blockWebSocket(false);
  await office.is("online");
  await expect(office.connection).not.toBeInViewport();
  expect(states).not.toContain("offline");
  await office.say("이제 빠릅니다");
  await home.say("그렇네요");
  const all = ["사무실입니다", "집입니다", "이제 빠릅니다", "그렇네요"];
  for (const one of [office, home]) {
    await expect(one.bubbles).toHaveCount(4);
  }
  expect((await said(server, room)).sort()).toEqual(all.sort());
});

test.describe("with short answers", () => {
  test.use({ options: ["--sockjs-response-bytes-max", "4096", "--message-rate", "0"] });

  test("a stream goes on in the next request, and comes back after a cut", async ({ server, cut, talker }) => {
    const room = await makeRoom(server, "여러 요청");
    cut.blockWebSocket();
    const office = await (await talker("영희", { at: cut.address })).enter(room, "detour");
    const home = await (await talker("철수")).enter(room);
    const texts = Array.from({ length: 20 }, (_, number) => `${number}: ${"가".repeat(300)}`);
    for (const text of texts.slice(0, 10)) {
      await home.say(text);
    }
    await office.sees(texts.slice(0, 10));
    await office.say("중간");
    await home.sees([...texts.slice(0, 10), "중간"]);
    cut.cut();
    await office.is("offline");
    for (const text of texts.slice(10)) {
      await home.say(text);
    }
    await office.say("끊긴 동안");
    await cut.join();
    await office.is("detour");
    await office.allStored(2);
    const seen = [...texts.slice(0, 10), "중간", ...texts.slice(10), "끊긴 동안"];
    await office.sees(seen);
    await home.sees(seen);
    expect(await said(server, room)).toEqual(seen);
  });
});

test("the other way is told in English, too", async ({ server, cut, talker }) => {
  const room = await makeRoom(server, "Office");
  cut.blockWebSocket();
  const office = await talker("Ann", { at: cut.address, locale: "en-GB" });
  await office.enter(room, "detour");
  await expect(office.connection).toContainText("Connected another way");
});
