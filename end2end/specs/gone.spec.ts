import { makeRoom, said } from "../support/api.ts";
import { path, Talker } from "../support/talker.ts";
import { ERROR_ANSWER, expect, SOCKET_LOST, test } from "../support/test.ts";

test.use({ provoked: new RegExp(`${SOCKET_LOST.source}|${ERROR_ANSWER.source}`) });
test.describe.configure({ timeout: 120_000 });

test("a room that is gone is told so, and takes nothing else along", async ({ server, talker }) => {
  const room = await makeRoom(server, "사라질 방");
  await makeRoom(server, "이것도 사라질 방");
  const guest = await (await talker("영희")).enter(room);
  await guest.say("여기 있었다");
  await guest.allStored(1);
  let sockets = 0;
  await server.kill9();
  await guest.is("offline");
  await guest.say("보내지 못한 말");
  await guest.input.fill("쓰던 글");
  await server.empty();
  guest.page.on("websocket", () => sockets++);
  await server.restart();
  const other = await makeRoom(server, "새 방");
  await guest.is("online");

  await expect(guest.page.getByRole("alert").filter({ hasText: "이 방은 없어졌습니다" })).toBeVisible();
  // What was said and written can still be copied; nothing more can be said.
  await guest.sees(["여기 있었다", "보내지 못한 말"]);
  await expect(guest.own.last()).toHaveAttribute("data-state", "failed");
  await expect(guest.own.last()).toContainText("방이 없어졌습니다");
  for (const name of ["고치기", "다시 보내기"]) {
    await guest.page.getByRole("button", { name }).click();
  }
  await guest.sees(["여기 있었다", "보내지 못한 말"]);
  await expect(guest.input).toHaveValue("쓰던 글");
  await expect(guest.input).not.toBeEditable();
  await expect(guest.page.getByRole("button", { name: "전송" })).toBeDisabled();
  await expect(guest.dialog).toBeHidden();

  // The list is the server's, and lives on over the same connection.
  await expect(guest.rooms.locator(".room-title")).toHaveText(["새 방"]);
  const another = await makeRoom(server, "더 새 방");
  await expect(guest.rooms.locator(".room-title")).toHaveText(["더 새 방", "새 방"]);
  await guest.rooms.filter({ hasText: other.roomName }).last().click();
  await expect(guest.page.locator("#room_name")).toHaveText("방제목 : 새 방");
  await guest.say("여기는 된다");
  await guest.allStored(1);
  expect(await said(server, other)).toEqual(["여기는 된다"]);
  await guest.is("online");
  expect(sockets, "one connection carries all of it").toBeLessThanOrEqual(2);
  expect(await said(server, another)).toEqual([]);

  // At its address, too, what could not be sent is there.
  await guest.page.goto(path(room));
  const left = guest.page.locator(".unsent");
  await expect(left).toContainText("보내지 못한 말");
  await left.getByRole("button", { name: "지우기" }).click();
  await expect(left).toBeHidden();
  await guest.page.reload();
  await expect(guest.page.getByRole("heading", { name: "방을 찾을 수 없습니다" })).toBeVisible();
  await expect(left).toBeHidden();
});

test("what an earlier page has left for a room that is gone is kept", async ({ server, talker }) => {
  const room = await makeRoom(server, "사라질 방");
  const guest = await (await talker("영희")).enter(room);
  await server.kill9();
  await guest.is("offline");
  await guest.say("너무 늦었다");
  const context = guest.page.context();
  await guest.page.close();
  await server.empty();
  await server.restart();
  const later = new Talker(await context.newPage(), "영희");
  await later.list();
  await later.page.goto(path(room));
  await expect(later.page.locator(".unsent")).toContainText("너무 늦었다");
});

test("a room that is there again is open again", async ({ server, talker }) => {
  const room = await makeRoom(server, "하나뿐인 방");
  const guest = await talker("영희");
  // The server says that it is gone.
  await guest.enter(room);
  await guest.say("하나");
  await guest.allStored(1);
  await guest.page.route(`**/chat/room/${room.roomId}/messages**`, (route) => route.fulfill({ status: 404 }));
  await server.kill9();
  await guest.is("offline");
  await server.restart();
  await guest.is("online");
  await expect(guest.page.getByRole("alert").filter({ hasText: "이 방은 없어졌습니다" })).toBeVisible();
  // It comes back: so does the page.
  await guest.page.unrouteAll();
  await server.kill9();
  await guest.is("offline");
  await server.restart();
  await guest.is("online");
  await expect(guest.page.getByRole("alert").filter({ hasText: "이 방은 없어졌습니다" })).toBeHidden();
  await guest.say("둘");
  await guest.allStored(2);
});
