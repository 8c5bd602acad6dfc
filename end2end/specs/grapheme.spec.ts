import type { Page } from "@playwright/test";

import { makeRoom, seed } from "../support/api.ts";
import { expect, test } from "../support/test.ts";
import { path } from "../support/talker.ts";

const FAMILY = "👩‍👩‍👧‍👦";
const NFD = "\u1112\u1161\u11AB\u1100\u1173\u11AF";

/** Names, and what one sees first of each. */
const faces: [string, string][] = [
  ["🇰🇷철수", "🇰🇷"],
  [`${FAMILY} 가족`, FAMILY],
  ["👍🏽", "👍🏽"],
  ["1️⃣등", "1️⃣"],
  [NFD, "한"],
  ["e\u0301mile", "é"],
  ["ที่รัก", "ที่"],
  ["\u202E영희", "영"],
  ["\uFE0F\u200D민지", "민"],
  ["\u3164 수진", "수"],
  [`z${"\u0301".repeat(39)}`, `ź${"\u0301".repeat(38)}`],
  ["lena", "l"],
];

test("a face is what one sees first of a name, from the server and from the browser alike", async ({
  browser,
  server,
  talker,
}) => {
  const room = await makeRoom(server, "얼굴");
  const guest = await (await talker("보는 이")).enter(room);
  for (const [name] of faces) {
    await seed(browser, server, room, name, ["안녕"]);
  }
  const shown = guest.page.locator("#messageArea .face");
  const drawn = () =>
    shown.evaluateAll((all) => all.map((face) => [face.getAttribute("data-face"), face.className.trim()]));
  await expect(shown).toHaveCount(faces.length);
  const live = await drawn();
  expect(live.map(([face]) => face)).toEqual(faces.map(([, face]) => face));
  // As the server draws it, before any script.
  const html = await (await fetch(server.address + path(room))).text();
  const parsed = await guest.page.evaluate((html) => {
    const page = new DOMParser().parseFromString(html, "text/html");
    return [...page.querySelectorAll("#messageArea .face")].map((face) => [
      face.getAttribute("data-face"),
      face.className.trim(),
    ]);
  }, html);
  expect(parsed).toEqual(live);
});

test("one name has one colour, however it is written", async ({ browser, server, talker }) => {
  const room = await makeRoom(server, "한 이름");
  const guest = await (await talker("보는 이")).enter(room);
  await seed(browser, server, room, "한글", ["하나"]);
  await seed(browser, server, room, NFD, ["둘"]);
  await seed(browser, server, room, "한\u200B글", ["셋"]);
  const shown = guest.page.locator("#messageArea .face");
  await expect(shown).toHaveCount(3);
  const classes = await shown.evaluateAll((all) => all.map((face) => face.className.trim()));
  expect(new Set(classes).size).toBe(1);
});

for (const [locale, words, family] of [
  ["ko-KR", /4000자까지.*4001자/, /2429자 줄여.*3000자.*571자/],
  ["en-US", /4000 characters.*4001/, /too long by 2429.*3000.*571/],
] as const) {
  test(`a text that is too long is told in what one sees, in ${locale}`, async ({ server, talker }) => {
    const room = await makeRoom(server, "너무 길어요");
    const guest = await (await talker("영희", { locale })).enter(room);
    const alert = guest.page.getByRole("alert");
    await guest.say("글".repeat(4001));
    await expect(alert).toHaveText(words);
    await guest.say(FAMILY.repeat(3000));
    await expect(alert).toHaveText(family);
    // What it says is true.
    await guest.say(FAMILY.repeat(572));
    await expect(alert).toHaveText(/\b1(자| characters).*572.*571/);
    await guest.say(FAMILY.repeat(571));
    await guest.sees([FAMILY.repeat(571)]);
    await guest.allStored(1);
    await expect(alert).toHaveCount(0);
  });
}

test("decomposed syllables count as the syllables that they are", async ({ server, talker }) => {
  const room = await makeRoom(server, "풀어 쓴");
  const guest = await (await talker()).enter(room);
  await guest.name.fill(NFD.repeat(21));
  await guest.name.press("Enter");
  await expect(guest.dialog.getByRole("alert")).toHaveText(/40자까지.*42자/);
  await guest.name.fill(NFD.repeat(20));
  await guest.name.press("Enter");
  await expect(guest.notices).toHaveText([`${"한글".repeat(20)}님이 입장하였습니다.`]);
  await guest.say(NFD.repeat(2000));
  await guest.allStored(1);
  // What fits stays as it was typed.
  await guest.say(NFD);
  await guest.allStored(2);
  await guest.sees(["한글".repeat(2000), NFD]);
});

/** The largest difference of two pictures of one size, in any channel of any pixel; of 255. */
function difference(page: Page, ...pictures: [Buffer, Buffer]): Promise<number> {
  return page.evaluate(async (pictures) => {
    const [a, b] = await Promise.all(
      pictures.map(async (picture) => {
        const bytes = Uint8Array.from(atob(picture), (byte) => byte.charCodeAt(0));
        const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
        const canvas = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d")!;
        canvas.drawImage(bitmap, 0, 0);
        return canvas.getImageData(0, 0, bitmap.width, bitmap.height).data;
      }),
    );
    return a.length === b.length ? a.reduce((most, value, at) => Math.max(most, Math.abs(value - b[at])), 0) : 255;
  }, pictures.map((picture) => picture.toString("base64")));
}

const HEAP = `z${"\u0301\u0323\u0334\u0317\u0346".repeat(40)}`;

for (const width of [1280, 360]) {
  test(`marks heaped on a letter stay where they belong, at ${width} px`, async ({ browser, server, talker }) => {
    const room = await makeRoom(server, `방 ${HEAP.slice(0, 60)}`);
    await seed(browser, server, room, "철수", ["위", "가나다", "아래"]);
    await seed(browser, server, room, `이름${HEAP.slice(0, 30)}`, ["그", HEAP, `줄\n${HEAP}\n줄`]);
    const plain = await (await talker("영희", { viewport: { width, height: 740 } })).enter(room);
    await plain.is("online");
    // Everything that holds what somebody wrote keeps it: nothing is painted outside of its box.
    const loose = await plain.page.evaluate(() =>
      [...document.querySelectorAll<HTMLElement>(".bubble, .sender, .face, .notice, .room-title, .room-name, .chip-name > bdi")]
        .filter((element) => element.checkVisibility({ visibilityProperty: true }))
        .filter((element) => {
          const { overflowX, overflowY } = getComputedStyle(element);
          return overflowX === "visible" || overflowY === "visible";
        })
        .map((element) => element.className),
    );
    expect(loose).toEqual([]);
    // And as it is painted: the rows beside it look the same with the heap and without it.
    const neighbour = plain.bubbles.filter({ hasText: /^아래$/ });
    const before = plain.bubbles.filter({ hasText: /^그$/ });
    const shots = async () => [await neighbour.screenshot(), await before.screenshot()];
    const heaped = await shots();
    await plain.page.evaluate(() => {
      for (const element of document.querySelectorAll<HTMLElement>(".bubble, .sender")) {
        for (const node of element.childNodes) {
          node.textContent = node.textContent!.replace(/[\u0300-\u036f]/g, "");
        }
      }
    });
    for (const [index, shot] of (await shots()).entries()) {
      expect(await difference(plain.page, shot, heaped[index])).toBeLessThan(8);
    }
  });
}
