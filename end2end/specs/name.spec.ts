import { makeRoom, said } from "../support/api.ts";
import { expect, test } from "../support/test.ts";

test("a first visit asks for a name, in a dialog that anybody can use", async ({ server, talker }) => {
  const room = await makeRoom(server, "첫 방문");
  const guest = await (await talker()).enter(room);
  const dialog = guest.page.getByRole("dialog", { name: "이름을 정해 주세요" });
  await expect(dialog).toBeVisible();
  await expect(dialog).toHaveAccessibleDescription(/대화에서 보일 이름/);
  await expect(guest.name).toBeFocused();
  await expect(guest.page.getByLabel("이름", { exact: true })).toHaveId("sender");
  // The page behind it cannot be reached.
  for (let presses = 0; presses < 4; presses++) {
    await guest.page.keyboard.press("Tab");
    const where = await guest.page.evaluate(
      () => document.activeElement === document.body || document.activeElement?.closest("dialog") !== null,
    );
    expect(where, "the focus stays in the dialog").toBe(true);
  }
  await guest.name.fill("영희");
  await guest.page.getByRole("button", { name: "확인" }).click();
  await expect(dialog).toBeHidden();
  await expect(guest.input).toBeFocused();
  await expect(guest.notices).toHaveText(["영희님이 입장하였습니다."]);
  await guest.say("안녕하세요");
  await guest.allStored(1);
});

test("a name is remembered", async ({ server, talker }) => {
  const room = await makeRoom(server, "기억");
  const guest = await (await talker()).enter(room);
  await guest.name.fill("  영희 ");
  await guest.name.press("Enter");
  await expect(guest.notices).toHaveText(["영희님이 입장하였습니다."]);
  await guest.page.reload();
  await guest.is("online");
  await expect(guest.dialog).toBeHidden();
  expect(await guest.page.evaluate(() => localStorage.getItem("sender"))).toBe("영희");
  await guest.say("나야");
  await guest.allStored(1);
});

test("Escape closes the dialog, and what is written waits for the name", async ({ server, talker }) => {
  const room = await makeRoom(server, "나중에");
  const guest = await (await talker()).enter(room);
  await expect(guest.dialog).toBeVisible();
  await guest.page.keyboard.press("Escape");
  await expect(guest.dialog).toBeHidden();
  await expect(guest.input).toBeFocused();
  await guest.say("이름은 나중에");
  await expect(guest.dialog).toBeVisible();
  await guest.name.fill("영희");
  await guest.name.press("Enter");
  await expect(guest.dialog).toBeHidden();
  await expect(guest.input).toHaveValue("이름은 나중에");
  await guest.input.press("Enter");
  await guest.allStored(1);
  expect(await said(server, room)).toEqual(["이름은 나중에"]);
});

for (const [what, remembered, reason] of [
  ["null", "null", /이제는 쓸 수 없습니다/],
  ["undefined", "undefined", /이제는 쓸 수 없습니다/],
  ["only spaces", "   ", /이제는 쓸 수 없습니다/],
  ["41 characters", "가".repeat(41), /40자까지.*41자/],
  ["a control character", "영\u0007희", /제어 문자/],
  ["nothing", "", /대화에서 보일 이름/],
] as const) {
  test(`a remembered name that is ${what} is asked for again`, async ({ server, talker }) => {
    const room = await makeRoom(server, "다시");
    const guest = await (await talker("", { remembered })).enter(room);
    await expect(guest.dialog).toBeVisible();
    await expect(guest.dialog).toContainText(reason);
    await expect(guest.name).toHaveValue("");
    await guest.name.fill("영희");
    await guest.name.press("Enter");
    await expect(guest.notices).toHaveText(["영희님이 입장하였습니다."]);
  });
}

for (const [what, name, reason] of [
  ["nothing", "", /한 글자 이상/],
  ["what nobody can see", "\u3164\u200B ", /한 글자 이상/],
  ["41 characters", "가".repeat(41), /40자까지.*41자/],
  ["a control character", "a\u0007", /제어 문자/],
] as const) {
  test(`a name of ${what} is refused with words`, async ({ talker }) => {
    const guest = await (await talker()).list();
    await guest.name.fill(name);
    await guest.page.getByRole("button", { name: "확인" }).click();
    await expect(guest.dialog.getByRole("alert")).toHaveText(reason);
    await expect(guest.name).toHaveAttribute("aria-invalid", "true");
    await expect(guest.name).toHaveAccessibleDescription(reason);
    await expect(guest.name).toBeFocused();
    await expect(guest.name).toHaveValue(name);
    await guest.name.fill("가".repeat(40));
    await guest.name.press("Enter");
    await expect(guest.dialog).toBeHidden();
  });
}

test("a name that another guest has is asked for again, and nothing written is lost", async ({
  server,
  talker,
}) => {
  const room = await makeRoom(server, "같은 이름");
  const first = await (await talker("영희")).enter(room);
  const second = await talker("영희");
  await second.page.goto(`/chat/room/enter/${room.roomId}`);
  await expect(second.dialog).toBeVisible();
  await expect(second.dialog).toContainText("다른 손님이 쓰고 있습니다");
  await expect(second.name).toHaveValue("영희");
  await second.page.keyboard.press("Escape");
  await second.say("저도 영희예요");
  await expect(second.dialog).toBeVisible();
  await second.name.fill("작은 영희");
  await second.name.press("Enter");
  await expect(second.dialog).toBeHidden();
  await expect(second.notices).toHaveText(["영희님이 입장하였습니다.", "작은 영희님이 입장하였습니다."]);
  await expect(second.input).toHaveValue("저도 영희예요");
  await second.input.press("Enter");
  await second.allStored(1);
  await first.sees(["저도 영희예요"]);
  await second.sees(["저도 영희예요"]);
  await expect(first.own).toHaveCount(0);
});

test("what was said before a name was refused is said under the new one", async ({ server, talker }) => {
  const room = await makeRoom(server, "같은 이름");
  const first = await (await talker("영희")).enter(room);
  const second = await talker("영희");
  // Holds back what the server says.
  let held = true;
  const waiting: (() => void)[] = [];
  await second.page.routeWebSocket("**/ws/chat", (socket) => {
    const server = socket.connectToServer();
    server.onMessage((data) => (held ? waiting.push(() => socket.send(data)) : socket.send(data)));
  });
  await second.page.goto(`/chat/room/enter/${room.roomId}`);
  await expect(second.page.getByTitle("이름 바꾸기")).toHaveText("영희");
  await second.say("저도 영희예요");
  await expect(second.own).toHaveAttribute("data-state", "sending");
  held = false;
  waiting.forEach((deliver) => deliver());
  await expect(second.dialog).toContainText("다른 손님이 쓰고 있습니다");
  await second.sees(["저도 영희예요"]);
  await second.name.fill("작은 영희");
  await second.name.press("Enter");
  await second.allStored(1);
  await first.sees(["저도 영희예요"]);
  await second.sees(["저도 영희예요"]);
  await expect(first.page.locator("#messageArea .sender")).toHaveText(["작은 영희"]);
});

test("two tabs of one browser share a name", async ({ server, talker }) => {
  const room = await makeRoom(server, "두 탭");
  const tab = await (await talker("영희")).enter(room);
  const other = await tab.page.context().newPage();
  await other.goto(`/chat/room/enter/${room.roomId}`);
  await expect(other.locator("#connection")).toHaveAttribute("data-state", "online");
  await expect(other.locator("#nameDialog")).toBeHidden();
  await tab.say("여기서");
  await expect(other.locator("#messageArea [data-own=true] .bubble")).toHaveText(["여기서"]);
  await expect(tab.notices).toHaveText(["영희님이 입장하였습니다."]);
});

test("a name can be changed", async ({ server, talker }) => {
  const room = await makeRoom(server, "새 이름");
  const younghee = await (await talker("영희")).enter(room);
  const chulsoo = await (await talker("철수")).enter(room);
  await younghee.say("옛 이름으로");
  await younghee.page.getByTitle("이름 바꾸기").click();
  await expect(younghee.name).toHaveValue("영희");
  await younghee.name.fill("영이");
  await younghee.name.press("Enter");
  await expect(chulsoo.notices).toHaveText([
    "영희님이 입장하였습니다.",
    "철수님이 입장하였습니다.",
    "영희님이 퇴장하였습니다.",
    "영이님이 입장하였습니다.",
  ]);
  await younghee.say("새 이름으로");
  await chulsoo.sees(["옛 이름으로", "새 이름으로"]);
  await expect(chulsoo.page.locator("#messageArea .sender")).toHaveText(["영희", "영이"]);
});
