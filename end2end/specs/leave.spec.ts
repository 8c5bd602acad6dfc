import { makeRoom, messages } from "../support/api.ts";
import { SOCKET_LOST, expect, test } from "../support/test.ts";

test("who leaves is seen to leave, and is back at the list", async ({ server, talker }) => {
  const room = await makeRoom(server, "안녕히");
  const staying = await (await talker("철수")).enter(room);
  const leaving = await (await talker("영희")).list();
  await leaving.rooms.first().click();
  await leaving.is("online");
  await leaving.say("먼저 갈게요");
  await leaving.allStored(1);
  await leaving.page.getByRole("button", { name: "나가기" }).click();
  await expect(leaving.page).toHaveURL(/\/chat\/room$/);
  await expect(leaving.page).toHaveTitle("방 목록 · 사랑방");
  await expect(leaving.page.locator("#room_name")).toHaveCount(0);
  await expect(staying.notices.last()).toHaveText("영희님이 퇴장하였습니다.");
  const last = (await messages(server, room)).at(-1);
  expect(last).toMatchObject({ type: "LEAVE", sender: "영희", message: "영희님이 퇴장하였습니다." });
});

test("back and forward go between list and room, and to come back is to enter again", async ({ server, talker }) => {
  const room = await makeRoom(server, "뒤로");
  const staying = await (await talker("철수")).enter(room);
  const guest = await (await talker("영희")).list();
  await guest.rooms.first().click();
  await expect(guest.notices).toHaveCount(2);
  await guest.say("하나");
  await guest.allStored(1);
  await guest.page.getByRole("button", { name: "나가기" }).click();
  await expect(guest.page).toHaveURL(/\/chat\/room$/);
  await expect(staying.notices).toHaveCount(3);
  await guest.page.goBack();
  await expect(guest.page.locator("#room_name")).toHaveText("방제목 : 뒤로");
  await guest.is("online");
  await expect(staying.notices).toHaveText([
    "철수님이 입장하였습니다.",
    "영희님이 입장하였습니다.",
    "영희님이 퇴장하였습니다.",
    "영희님이 입장하였습니다.",
  ]);
  await guest.sees(["하나"]);
  await guest.say("둘");
  await staying.sees(["하나", "둘"]);
  await guest.page.goForward();
  await expect(guest.page).toHaveURL(/\/chat\/room$/);
  await expect(guest.rooms).toHaveCount(1);
});

test("to look at the list is not to leave", async ({ server, talker }) => {
  const room = await makeRoom(server, "잠깐만");
  const other = await makeRoom(server, "다른 방");
  const staying = await (await talker("철수")).enter(room);
  const guest = await (await talker("영희")).enter(room);
  await expect(staying.notices).toHaveCount(2);
  await guest.page.locator("a.brand").click();
  await expect(guest.page).toHaveURL(/\/chat\/room$/);
  await guest.rooms.filter({ hasText: other.roomName }).click();
  await expect(guest.page.locator("#room_name")).toHaveText("방제목 : 다른 방");
  await guest.rooms.filter({ hasText: room.roomName }).click();
  await expect(guest.page.locator("#room_name")).toHaveText("방제목 : 잠깐만");
  await guest.is("online");
  await guest.say("나 여기 있어");
  await staying.sees(["나 여기 있어"]);
  await expect(staying.notices).toHaveCount(2);
});

test.describe("leaving with no network", () => {
  test.use({ provoked: SOCKET_LOST });

  test("is told once it is back", async ({ server, cut, talker }) => {
    test.setTimeout(90_000);
    const room = await makeRoom(server, "끊긴 채로");
    const staying = await (await talker("철수")).enter(room);
    const leaving = await (await talker("영희", { at: cut.address })).enter(room);
    await expect(staying.notices).toHaveCount(2);
    cut.cut();
    await leaving.is("offline");
    await leaving.say("이만 갈게요");
    await leaving.page.getByRole("button", { name: "나가기" }).click();
    await expect(leaving.page).toHaveURL(/\/chat\/room$/);
    await cut.join();
    await leaving.is("online");
    await staying.sees(["이만 갈게요"]);
    await expect(staying.notices.last()).toHaveText("영희님이 퇴장하였습니다.", { timeout: 30_000 });
  });
});
