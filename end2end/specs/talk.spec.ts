import { makeRoom, messages } from "../support/api.ts";
import { expect, test } from "../support/test.ts";

test("two people talk both ways, in one order", async ({ server, talker }) => {
  const room = await makeRoom(server, "둘이서");
  const younghee = await (await talker("영희")).enter(room);
  const chulsoo = await (await talker("철수")).enter(room);
  const said = [];
  for (let turn = 1; turn <= 5; turn++) {
    for (const [speaker, listener] of [
      [younghee, chulsoo],
      [chulsoo, younghee],
    ]) {
      said.push(`${speaker.sender} ${turn}`);
      await speaker.say(`${speaker.sender} ${turn}`);
      await listener.sees(said);
    }
  }
  for (const reader of [younghee, chulsoo]) {
    await reader.sees(said);
    await expect(reader.own.locator(".bubble")).toHaveText(
      said.filter((text) => text.startsWith(reader.sender)),
    );
    await reader.allStored(5);
  }
});

test("what both send at the same time stands in the same order for both", async ({ server, talker }) => {
  const room = await makeRoom(server, "한꺼번에");
  const both = [await (await talker("영희")).enter(room), await (await talker("철수")).enter(room)];
  await Promise.all(
    both.map(async (speaker) => {
      for (let n = 1; n <= 10; n++) {
        await speaker.say(`${speaker.sender} ${n}`);
      }
    }),
  );
  for (const speaker of both) {
    await speaker.allStored(10);
    await expect(speaker.bubbles).toHaveCount(20);
  }
  const stored = (await messages(server, room)).filter(({ type }) => type === "TALK");
  for (const reader of both) {
    await reader.sees(stored.map(({ message }) => message));
  }
  for (const { sender } of both) {
    const own = stored.filter((message) => message.sender === sender);
    expect(own.map(({ message }) => message)).toEqual(own.map((_, index) => `${sender} ${index + 1}`));
  }
});

test("an own message is there at once, and stored when the server has it", async ({ server, talker }) => {
  const room = await makeRoom(server, "바로");
  const younghee = await talker("영희");
  // Holds back what the server says of it.
  let held = false;
  const waiting: (() => void)[] = [];
  await younghee.page.routeWebSocket("**/ws/chat", (socket) => {
    const server = socket.connectToServer();
    server.onMessage((data) => (held ? waiting.push(() => socket.send(data)) : socket.send(data)));
  });
  await younghee.enter(room);
  held = true;
  await younghee.say("보이나요?");
  await younghee.sees(["보이나요?"]);
  await expect(younghee.own).toHaveAttribute("data-state", "sending");
  await expect(younghee.own).toContainText("보내는 중");
  await expect(younghee.input).toHaveValue("");
  await expect(younghee.input).toBeFocused();
  await expect.poll(() => waiting.length).toBeGreaterThan(0);
  held = false;
  waiting.forEach((deliver) => deliver());
  await expect(younghee.own).toHaveAttribute("data-state", "stored");
  await expect(younghee.own).not.toContainText("보내는 중");
  await younghee.sees(["보이나요?"]);
});

test("entering and leaving is told in each reader's language", async ({ server, talker }) => {
  const room = await makeRoom(server, "여러 말");
  const younghee = await (await talker("영희")).enter(room);
  const lena = await (await talker("Lena", { locale: "en-US" })).enter(room);
  await expect(younghee.notices).toHaveText(["영희님이 입장하였습니다.", "Lena님이 입장하였습니다."]);
  await expect(lena.notices).toHaveText(["영희 joined.", "Lena joined."]);
  await lena.page.getByRole("button", { name: "Leave" }).click();
  await expect(younghee.notices.last()).toHaveText("Lena님이 퇴장하였습니다.");
  await lena.enter(room);
  await younghee.page.getByRole("button", { name: "나가기" }).click();
  await expect(lena.notices.last()).toHaveText("영희 left.");
});

test("Shift and Enter begins a new line", async ({ server, talker }) => {
  const room = await makeRoom(server, "두 줄");
  const younghee = await (await talker("영희")).enter(room);
  await younghee.input.pressSequentially("하나");
  await younghee.input.press("Shift+Enter");
  await younghee.input.pressSequentially("둘");
  await younghee.input.press("Enter");
  await younghee.allStored(1);
  const bubble = younghee.bubbles.first();
  expect(await bubble.innerText()).toBe("하나\n둘");
  const stored = (await messages(server, room)).at(-1);
  expect(stored?.message).toBe("하나\n둘");
});

test("nothing is sent of nothing", async ({ server, talker }) => {
  const room = await makeRoom(server, "빈말");
  const younghee = await (await talker("영희")).enter(room);
  await younghee.say("   ");
  await younghee.page.getByRole("button", { name: "전송" }).click();
  await younghee.input.fill("말");
  await younghee.page.getByRole("button", { name: "전송" }).click();
  await younghee.allStored(1);
  await younghee.sees(["말"]);
  const stored = (await messages(server, room)).filter(({ type }) => type === "TALK");
  expect(stored.map(({ message }) => message)).toEqual(["말"]);
});
