import { makeRoom, said } from "../support/api.ts";
import { SOCKET_LOST, expect, test } from "../support/test.ts";

test.use({ provoked: SOCKET_LOST });
test.describe.configure({ timeout: 120_000 });

test("what happens while the network is away is all there afterwards", async ({ server, cut, talker }) => {
  const room = await makeRoom(server, "굴");
  const away = await (await talker("영희", { at: cut.address })).enter(room);
  const there = await (await talker("철수")).enter(room);
  await away.say("들어갑니다");
  await there.sees(["들어갑니다"]);
  cut.cut();
  await away.is("offline");
  await expect(away.connection).toBeVisible();
  await expect(away.connection).toContainText("저절로 다시 연결");
  await there.is("online");
  const fromAway = ["굴 안 1", "굴 안 2", "굴 안 3"];
  const fromThere = ["거기 있어요?", "여보세요", "기다릴게요"];
  for (const [index, text] of fromAway.entries()) {
    await away.say(text);
    await there.say(fromThere[index]);
  }
  await away.sees(["들어갑니다", ...fromAway]);
  await there.allStored(3);
  await there.sees(["들어갑니다", ...fromThere]);
  await cut.join();
  await away.is("online");
  await expect(away.connection).not.toBeInViewport();
  await away.allStored(4);
  const all = ["들어갑니다", ...fromThere, ...fromAway];
  await away.sees(all);
  await there.sees(all);
  expect(await said(server, room)).toEqual(all);
});

test("a network that is gone without a word is noticed", async ({ server, cut, talker }) => {
  const room = await makeRoom(server, "말없이");
  const there = await (await talker("철수")).enter(room);
  const away = await (await talker("영희", { at: cut.address })).enter(room);
  cut.silence();
  await away.say("들리나요?");
  await expect(away.own).toHaveAttribute("data-state", "sending");
  // By heart-beats alone: nothing closes the socket.
  await away.is("offline");
  await cut.join();
  await away.is("online");
  await away.allStored(1);
  await there.sees(["들리나요?"]);
});

test("the state is told while it catches up", async ({ server, cut, talker }) => {
  const room = await makeRoom(server, "따라잡기");
  const away = await talker("영희", { at: cut.address });
  const states: string[] = [];
  await away.page.exposeFunction("noteState", (state: string) => {
    if (state !== states.at(-1)) {
      states.push(state);
    }
  });
  await away.page.addInitScript(() => {
    addEventListener("DOMContentLoaded", () => {
      const connection = document.getElementById("connection")!;
      const note = () => (window as any).noteState(connection.dataset.state);
      new MutationObserver(note).observe(connection, { attributeFilter: ["data-state"] });
      note();
    });
  });
  await away.enter(room);
  cut.cut();
  await away.is("offline");
  await cut.join();
  await away.is("online");
  expect(states).toEqual(["connecting", "online", "offline", "catching-up", "online"]);
});

test("a message whose receipt was lost is stored once", async ({ server, talker }) => {
  const room = await makeRoom(server, "두 번은 없다");
  const there = await (await talker("철수")).enter(room);
  const away = await talker("영희");
  // The message arrives; what the server says of it does not.
  let deaf = false;
  let lose = () => {};
  await away.page.routeWebSocket("**/ws/chat", (socket) => {
    const server = socket.connectToServer();
    server.onMessage((data) => (deaf ? undefined : socket.send(data)));
    lose = () => {
      deaf = false;
      void server.close();
      void socket.close();
    };
  });
  await away.enter(room);
  deaf = true;
  await away.say("한 번만");
  await there.sees(["한 번만"]);
  await expect(away.own).toHaveAttribute("data-state", "sending");
  lose();
  await away.is("online");
  await away.allStored(1);
  await away.sees(["한 번만"]);
  await there.sees(["한 번만"]);
  expect(await said(server, room)).toEqual(["한 번만"]);
});

test("what was written in a room is sent though one has gone to the list", async ({ server, cut, talker }) => {
  const room = await makeRoom(server, "두고 온 말");
  const there = await (await talker("철수")).enter(room);
  const away = await (await talker("영희", { at: cut.address })).enter(room);
  cut.cut();
  await away.is("offline");
  await away.say("이따 갈게요");
  await away.page.locator("a.brand").click();
  await expect(away.page).toHaveURL(/\/chat\/room$/);
  await cut.join();
  await there.sees(["이따 갈게요"]);
  await away.is("online");
});

test("rooms that cannot be made or opened are told so", async ({ server, cut, talker }) => {
  const room = await makeRoom(server, "저 방");
  const away = await (await talker("영희", { at: cut.address })).list();
  cut.cut();
  await away.is("offline");
  await away.page.locator("#roomName").fill("새 방");
  await away.page.getByRole("button", { name: "생성하기" }).click();
  await expect(away.page.locator("#roomNameWrong")).toHaveText(/서버에 닿지 않습니다/);
  await expect(away.page.locator("#roomName")).toHaveValue("새 방");
  await away.rooms.filter({ hasText: room.roomName }).click();
  await expect(away.page.getByRole("alert").filter({ hasText: "불러올 수 없습니다" })).toBeVisible();
});

test("a browser that says it is back is reconnected at once", async ({ server, cut, talker }) => {
  const room = await makeRoom(server, "바로 다시");
  const away = await (await talker("영희", { at: cut.address })).enter(room);
  cut.cut();
  await away.is("offline");
  await cut.join();
  await away.page.evaluate(() => dispatchEvent(new Event("online")));
  await expect(away.connection).toHaveAttribute("data-state", "online", { timeout: 3_000 });
});
