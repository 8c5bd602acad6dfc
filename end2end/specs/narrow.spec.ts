import type { Page } from "@playwright/test";

import { makeRoom, seed, type Room } from "../support/api.ts";
import { ERROR_ANSWER, expect, test } from "../support/test.ts";
import type { Talker } from "../support/talker.ts";

const LONG = "아주길고끊을곳이없는낱말".repeat(8);

test.use({
  viewport: { width: 360, height: 740 },
  hasTouch: true,
  isMobile: true,
  provoked: ERROR_ANSWER,
});

/** Nothing stands outside of the page, and nothing makes it scroll sideways. */
async function fits(page: Page): Promise<void> {
  const overflow = await page.evaluate(() => {
    const width = document.documentElement.clientWidth;
    // What ends in "…" reaches further than it is shown.
    const isCut = (element: Element | null): boolean =>
      element !== null && (getComputedStyle(element).textOverflow === "ellipsis" || isCut(element.parentElement));
    const outside = [...document.querySelectorAll("body *")]
      .filter((element) => element.checkVisibility({ visibilityProperty: true }))
      .filter((element) => !element.closest(".visually-hidden, .connection:not([data-state=offline])"))
      .filter((element) => !isCut(element.parentElement))
      .filter((element) => {
        const { left, right, width: own } = element.getBoundingClientRect();
        const isOutside = own > 1 && (left < -0.5 || right > width + 0.5);
        const holdsMore = element.clientWidth > 0 && element.scrollWidth > element.clientWidth + 1;
        return isOutside || (holdsMore && !isCut(element) && !element.matches("input, textarea"));
      })
      .map((element) => `${element.tagName}.${element.className}`);
    const scrolls = document.documentElement.scrollWidth > width || visualViewport!.width < width - 1;
    return { outside, scrolls };
  });
  expect(overflow).toEqual({ outside: [], scrolls: false });
}

/** Whatever can be touched is at least 24 px (WCAG 2.2, 2.5.8), and what the style promises: 44 px. */
async function fitsThumbs(page: Page): Promise<void> {
  const small = await page.evaluate(() =>
    [...document.querySelectorAll("a, button, input, textarea")]
      .filter((element) => element.checkVisibility({ visibilityProperty: true }))
      .map((element) => ({ element, box: element.getBoundingClientRect() }))
      .filter(({ box }) => box.width < 24 || box.height < 44)
      .map(({ element, box }) => `${element.outerHTML.slice(0, 80)}: ${box.width} x ${box.height}`),
  );
  expect(small).toEqual([]);
}

async function check(guest: Talker): Promise<void> {
  await fits(guest.page);
  await fitsThumbs(guest.page);
}

for (const locale of ["ko-KR", "en-US"]) {
  test(`the list fits, in ${locale}`, async ({ server, talker }) => {
    for (const name of ["짧게", LONG, `${"W".repeat(100)}`, "영어 and 한글 섞어서 조금 긴 방 제목을 지어 보자"]) {
      await makeRoom(server, name);
    }
    const guest = await (await talker(LONG.slice(0, 40), { locale })).list();
    await check(guest);
    await expect(guest.page.locator(".placard")).toBeHidden();
    await guest.page.locator("#roomName").fill("방".repeat(101));
    await guest.page.locator("#roomName").press("Enter");
    await expect(guest.page.getByRole("alert")).toBeVisible();
    await check(guest);
  });

  test(`a room fits, in ${locale}`, async ({ browser, server, talker }) => {
    const room: Room = await makeRoom(server, LONG);
    await seed(browser, server, room, LONG.slice(0, 40), [LONG, "W".repeat(300), "짧게", "https://example.com/" + "a/".repeat(80)]);
    const guest = await (await talker("영희", { locale })).enter(room);
    await guest.say(`${LONG} ${"W".repeat(200)}`);
    await guest.allStored(1);
    await check(guest);
    // Everything to write with is in sight, the room's name is cut, not wrapped.
    await expect(guest.input).toBeInViewport({ ratio: 1 });
    await expect(guest.page.locator(".composer-send")).toBeInViewport({ ratio: 1 });
    for (const button of ["people-button", "button:last-of-type"]) {
      await expect(guest.page.locator(`.room-head > .${button}`)).toBeInViewport({ ratio: 1 });
    }
    await expect(guest.bubbles.last()).toBeInViewport();
    await guest.input.fill("여러 줄\n".repeat(30));
    await expect(guest.page.locator(".room-head")).toBeInViewport({ ratio: 1 });
    await check(guest);
    await guest.page.locator("a.back").tap();
    await expect(guest.rooms).toHaveCount(1);
    await expect(guest.rooms.first()).toBeVisible();
  });

  test(`the dialog fits, in ${locale}`, async ({ talker }) => {
    const guest = await (await talker("", { locale, remembered: LONG })).list();
    await expect(guest.dialog).toBeVisible();
    await check(guest);
    await guest.name.fill(LONG);
    await guest.name.press("Enter");
    await expect(guest.dialog.getByRole("alert")).toBeVisible();
    await check(guest);
    await expect(guest.dialog).toBeInViewport({ ratio: 1 });
  });

  test(`the page that is missing fits, in ${locale}`, async ({ talker }) => {
    const guest = await talker("영희", { locale });
    await guest.page.goto("/chat/room/enter/hello");
    await expect(guest.page.locator(".desk .placard")).toBeVisible();
    await check(guest);
  });
}

test("a phone shows list or room, never both", async ({ server, talker }) => {
  const room = await makeRoom(server, "하나씩");
  const guest = await (await talker("영희")).list();
  await guest.rooms.first().tap();
  await expect(guest.page.locator("#room_name")).toHaveText(`방제목 : ${room.roomName}`);
  await expect(guest.page.locator("#roomListTable")).toBeHidden();
  await guest.page.goBack();
  await expect(guest.page.locator("#roomListTable")).toBeVisible();
  await expect(guest.page.locator("#room_name")).toHaveCount(0);
});

test("text may be twice as large", async ({ browser, server, talker }) => {
  const room = await makeRoom(server, "큰 글씨");
  await seed(browser, server, room, "철수", [LONG, "짧게"]);
  const guest = await talker("영희");
  await guest.page.addInitScript(() => {
    addEventListener("DOMContentLoaded", () => (document.documentElement.style.fontSize = "200%"));
  });
  await guest.enter(room);
  await fits(guest.page);
  await expect(guest.input).toBeInViewport({ ratio: 1 });
  await guest.list();
  await fits(guest.page);
  await expect(guest.rooms.first()).toBeInViewport();
});
