import type { Locator } from "@playwright/test";

import { makeRoom, messages, type Room } from "../support/api.ts";
import type { Server } from "../support/server.ts";
import { path, type Talker } from "../support/talker.ts";
import { SOCKET_LOST, expect, test } from "../support/test.ts";

/** The button that says how many are in the room. */
function count(guest: Talker): Locator {
  return guest.page.locator(".people-button");
}

/** The names in the list that it opens. */
function names(guest: Talker): Locator {
  return guest.page.locator(".people .person-name");
}

function typing(guest: Talker): Locator {
  return guest.page.locator(".typing");
}

async function open(guest: Talker): Promise<void> {
  await count(guest).click();
  await expect(guest.page.getByRole("dialog", { name: "참여자" })).toBeVisible();
}

/** Who is in the room, by the room API. */
async function participants(server: Server, room: Room): Promise<string[]> {
  const response = await fetch(`${server.address}/chat/room/${room.roomId}/participants`);
  return ((await response.json()) as { sender: string }[]).map(({ sender }) => sender);
}

/** Who came and went, in the log. */
async function notices(server: Server, room: Room): Promise<string[]> {
  const all = await messages(server, room);
  return all.filter(({ type }) => type !== "TALK").map(({ type, sender }) => `${type} ${sender}`);
}

/** As long as somebody is there who is away, and a little more. */
const GRACE_MS = 13_000;

test("who is here is counted and listed, oneself first, as they come and go", async ({ server, talker }) => {
  const room = await makeRoom(server, "여기");
  const guest = await (await talker("영희")).enter(room);
  await expect(count(guest)).toHaveText("1");
  await expect(count(guest)).toHaveAccessibleName("참여자 1명");
  await open(guest);
  await expect(names(guest)).toHaveText(["영희"]);
  await expect(guest.page.locator(".person").first()).toContainText("나");
  const other = await (await talker("가을")).enter(room);
  await expect(names(guest)).toHaveText(["영희", "가을"]);
  await expect(count(guest)).toHaveText("2");
  await expect(count(other)).toHaveText("2");
  expect(await participants(server, room)).toEqual(["가을", "영희"]);
  await other.page.getByRole("button", { name: "나가기" }).click();
  await expect(names(guest)).toHaveText(["영희"]);
  await guest.page.keyboard.press("Escape");
  await expect(guest.page.locator(".people")).toBeHidden();
  await expect(count(guest)).toBeFocused();
  await guest.page.keyboard.press("Enter");
  await expect(names(guest)).toHaveText(["영희"]);
  await guest.page.getByRole("button", { name: "닫기" }).click();
  await expect(guest.page.locator(".people")).toBeHidden();
});

test("a name in the list is text", async ({ server, talker }) => {
  const room = await makeRoom(server, "이름");
  const guest = await (await talker(`"><img src=x onerror=a>`)).enter(room);
  await open(guest);
  await expect(names(guest)).toHaveText([`"><img src=x onerror=a>`]);
  await expect(guest.page.locator(".people img")).toHaveCount(0);
});

test("a reload is neither going nor coming; a closed tab is, after a while, once", async ({ server, talker }) => {
  test.setTimeout(90_000);
  const room = await makeRoom(server, "새로 고침");
  const staying = await (await talker("철수")).enter(room);
  const guest = await (await talker("영희")).enter(room);
  const second = await guest.page.context().newPage();
  await second.goto(path(room));
  await expect(second.locator(".people-button")).toHaveText("2");
  for (let times = 0; times < 3; times += 1) {
    await guest.page.reload();
    await guest.is("online");
  }
  // One of two tabs.
  await second.close();
  await guest.page.waitForTimeout(GRACE_MS);
  expect(await notices(server, room)).toEqual(["ENTER 철수", "ENTER 영희"]);
  await expect(count(staying)).toHaveText("2");
  await guest.page.close();
  await expect(staying.notices.last()).toHaveText("영희님이 퇴장하였습니다.", { timeout: GRACE_MS });
  await expect(count(staying)).toHaveText("1");
  expect(await notices(server, room)).toEqual(["ENTER 철수", "ENTER 영희", "LEAVE 영희"]);
});

test("who leaves in one tab has left in the other, and is back when they talk there", async ({ server, talker }) => {
  const room = await makeRoom(server, "두 탭");
  const staying = await (await talker("철수")).enter(room);
  const guest = await (await talker("영희")).enter(room);
  const page = await guest.page.context().newPage();
  await page.goto(path(room));
  await expect(page.locator(".people-button")).toHaveText("2");
  await guest.page.getByRole("button", { name: "나가기" }).click();
  await expect(page.locator("#messageArea [data-type]").last()).toHaveText("영희님이 퇴장하였습니다.");
  await expect(page.locator(".people-button")).toHaveText("1");
  await page.locator("#messageInput").fill("아직 있어요");
  await page.locator("#messageInput").press("Enter");
  await staying.sees(["아직 있어요"]);
  await expect(count(staying)).toHaveText("2");
  expect(await participants(server, room)).toEqual(["영희", "철수"]);
  expect(await notices(server, room)).toEqual(["ENTER 철수", "ENTER 영희", "LEAVE 영희", "ENTER 영희"]);
});

test("who is typing is shown to the others while they type, and to nobody else", async ({ server, talker }) => {
  const room = await makeRoom(server, "입력");
  const reader = await (await talker("철수")).enter(room);
  const first = await (await talker("영희")).enter(room);
  const second = await (await talker("가을")).enter(room);
  const third = await (await talker("바다")).enter(room);
  await expect(count(reader)).toHaveText("4");
  await first.input.pressSequentially("안녕", { delay: 50 });
  await expect(typing(reader)).toHaveText("\u2068영희\u2069님이 입력 중");
  await expect(typing(first)).toBeEmpty();
  await second.input.pressSequentially("하이", { delay: 50 });
  await expect(typing(reader)).toHaveText("\u2068영희\u2069님, \u2068가을\u2069님이 입력 중");
  await expect(typing(first)).toHaveText("\u2068가을\u2069님이 입력 중");
  await third.input.pressSequentially("네", { delay: 50 });
  await expect(typing(reader)).toHaveText("여러 명이 입력 중");
  // Who has said it types no more, and who stops neither.
  await first.input.press("Enter");
  await expect(typing(second)).not.toContainText("영희");
  await expect(typing(reader)).toBeEmpty({ timeout: 8_000 });
  expect((await messages(server, room)).filter(({ type }) => type === "TALK")).toHaveLength(1);
});

test.describe("in English, on a phone", () => {
  test.use({ provoked: SOCKET_LOST });

  test("the list is a sheet from below", async ({ server, talker }) => {
    const room = await makeRoom(server, "Sheet");
    const look = { locale: "en-GB", viewport: { width: 360, height: 740 } };
    const guest = await (await talker("Lena", look)).enter(room);
    for (const name of ["Bo", "Ana"]) {
      await (await talker(name)).enter(room);
    }
    await expect(count(guest)).toHaveAccessibleName("3 people here");
    await count(guest).click();
    const sheet = guest.page.getByRole("dialog", { name: "People here" });
    await expect(names(guest)).toHaveText(["Lena", "Ana", "Bo"]);
    const box = await sheet.boundingBox();
    expect(box).toMatchObject({ x: 0, width: 360 });
    expect(Math.round((box?.y ?? 0) + (box?.height ?? 0))).toBe(740);
  });
});
