import { AxeBuilder } from "@axe-core/playwright";

import { makeRoom, seed } from "../support/api.ts";
import { ERROR_ANSWER, SOCKET_LOST, expect, test } from "../support/test.ts";
import type { Talker } from "../support/talker.ts";

test.use({ provoked: new RegExp(`${ERROR_ANSWER.source}|${SOCKET_LOST.source}`) });

async function hasNoViolations(guest: Talker): Promise<void> {
  const { violations } = await new AxeBuilder({ page: guest.page })
    .withTags(["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa", "best-practice"])
    .analyze();
  const found = violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map(({ html }) => html).join(" ")}`);
  expect(found).toEqual([]);
}

for (const colorScheme of ["light", "dark"] as const) {
  for (const viewport of [
    { width: 1280, height: 800 },
    { width: 360, height: 740 },
  ]) {
    const look = { colorScheme, viewport };

    test.describe(`${colorScheme}, ${viewport.width} px`, () => {
      test("the list, empty and full", async ({ browser, server, talker }) => {
        const guest = await (await talker("영희", look)).list();
        await hasNoViolations(guest);
        await makeRoom(server, "하나");
        await seed(browser, server, await makeRoom(server, "둘"), "철수", ["말"]);
        await expect(guest.rooms).toHaveCount(2);
        await guest.page.locator("#roomName").press("Enter");
        await expect(guest.page.getByRole("alert")).toBeVisible();
        await hasNoViolations(guest);
      });

      test("a room, empty and with talk", async ({ browser, server, talker }) => {
        const room = await makeRoom(server, "대화");
        const guest = await (await talker("", look)).enter(room);
        await guest.page.keyboard.press("Escape");
        await expect(guest.dialog).toBeHidden();
        await hasNoViolations(guest);
        await seed(browser, server, room, "철수", Array.from({ length: 30 }, (_, n) => `남의 말 ${n}`));
        await guest.say("내 말");
        await guest.name.fill("영희");
        await guest.name.press("Enter");
        await guest.input.press("Enter");
        await guest.allStored(1);
        await guest.say("글".repeat(4001));
        await expect(guest.page.getByRole("alert")).toBeVisible();
        await hasNoViolations(guest);
      });

      test("the list of people, and who is typing", async ({ server, talker }) => {
        const room = await makeRoom(server, "사람들");
        const guest = await (await talker("영희", look)).enter(room);
        const other = await (await talker("철수", look)).enter(room);
        await other.input.pressSequentially("안", { delay: 30 });
        await expect(guest.page.locator(".typing")).toContainText("철수");
        await hasNoViolations(guest);
        await guest.page.locator(".people-button").click();
        await expect(guest.page.locator(".person-name")).toHaveCount(2);
        await hasNoViolations(guest);
      });

      test("the dialog, asking and refusing", async ({ talker }) => {
        const guest = await (await talker("", look)).list();
        await expect(guest.dialog).toBeVisible();
        await hasNoViolations(guest);
        await guest.name.press("Enter");
        await expect(guest.dialog.getByRole("alert")).toBeVisible();
        await hasNoViolations(guest);
      });

      test("the page that is missing", async ({ talker }) => {
        const guest = await talker("영희", look);
        await guest.page.goto("/chat/room/enter/hello");
        await guest.is("online");
        await hasNoViolations(guest);
      });

      test("a lost connection, with what waits", async ({ server, cut, talker }) => {
        const room = await makeRoom(server, "끊김");
        const guest = await (await talker("영희", { ...look, at: cut.address })).enter(room);
        cut.cut();
        await guest.is("offline");
        await guest.say("기다리는 말");
        await expect(guest.own).toHaveAttribute("data-state", "sending");
        await hasNoViolations(guest);
      });
    });
  }
}
