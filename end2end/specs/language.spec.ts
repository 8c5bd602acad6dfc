import { makeRoom, messages, seed } from "../support/api.ts";
import { expect, test } from "../support/test.ts";
import { path } from "../support/talker.ts";

for (const [locale, lang, create, title] of [
  ["ko-KR", "ko", "생성하기", "방 목록 · 사랑방"],
  ["en-US", "en", "Create", "Rooms · Sarangbang"],
  ["de-DE", "en", "Create", "Rooms · Sarangbang"],
]) {
  test(`a browser that asks for ${locale} gets ${lang}`, async ({ talker }) => {
    const guest = await talker("영희", { locale });
    const response = await guest.page.goto("/chat/room");
    expect(await response?.headerValue("content-language")).toBe(lang);
    await expect(guest.page.locator("html")).toHaveAttribute("lang", lang);
    await expect(guest.page.getByRole("button", { name: create })).toBeVisible();
    await guest.is("online");
    await expect(guest.page.getByRole("button", { name: create })).toBeVisible();
    await expect(guest.page).toHaveTitle(title);
  });
}

test("who asks for nothing gets Korean", async ({ server }) => {
  const response = await fetch(`${server.address}/chat/room`, { headers: { "accept-language": "*" } });
  expect(await response.text()).toContain('<html lang="ko"');
});

test("the other language is chosen by a link, and remembered", async ({ server, talker }) => {
  const room = await makeRoom(server, "두 말");
  const guest = await (await talker("영희")).enter(room);
  const link = guest.page.locator("a[hreflang]");
  await expect(link).toHaveText("English");
  await expect(link).toHaveAttribute("hreflang", "en");
  await expect(link).toHaveAttribute("lang", "en");
  await link.click();
  await expect(guest.page.locator("#room_name")).toHaveText("Room: 두 말");
  await expect(guest.page.locator("html")).toHaveAttribute("lang", "en");
  await guest.is("online");
  for (const address of [path(room), "/chat/room", "/chat/room?other=1"]) {
    await guest.page.goto(address);
    await expect(guest.page.locator("html")).toHaveAttribute("lang", "en");
    await expect(guest.page.getByRole("button", { name: "Create" })).toBeVisible();
  }
  const cookie = (await guest.page.context().cookies()).find(({ name }) => name === "sarangbang_lang");
  expect(cookie).toMatchObject({ value: "en", path: "/", sameSite: "Lax" });
  expect(cookie?.expires).toBeGreaterThan(Date.now() / 1_000 + 30 * 86_400);
  await guest.page.locator("a[hreflang=ko]").click();
  await expect(guest.page.locator("html")).toHaveAttribute("lang", "ko");
  await guest.page.goto(path(room));
  await expect(guest.page.locator("#room_name")).toHaveText("방제목 : 두 말");
});

test("what is no language changes nothing", async ({ talker }) => {
  const guest = await talker("영희");
  await guest.page.goto("/chat/room?lang=xx%22%3E");
  await expect(guest.page.locator("html")).toHaveAttribute("lang", "ko");
  await guest.is("online");
});

test("the wire stays Korean while each reader is told in their language", async ({ server, talker }) => {
  const room = await makeRoom(server, "전선");
  const lena = await (await talker("Lena", { locale: "en-US" })).enter(room);
  await lena.say("hello");
  await lena.allStored(1);
  await lena.page.reload();
  await expect(lena.notices.first()).toHaveText("Lena joined.");
  const [enter] = await messages(server, room);
  expect(enter).toMatchObject({ type: "ENTER", sender: "Lena", message: "Lena님이 입장하였습니다." });
});

/** Hour and minute, 0 to 23 and 0 to 59, where the clocks are 5:45 h ahead of UTC all year. */
function inKathmandu(at: string): [number, number] {
  const there = new Date(Date.parse(at) + (5 * 60 + 45) * 60_000);
  return [there.getUTCHours(), there.getUTCMinutes()];
}

for (const [locale, clock, day] of [
  ["ko-KR", /^오[전후] \d{1,2}:\d{2}$/, /^\d{4}년 \d{1,2}월 \d{1,2}일 .요일$/],
  ["en-US", /^\d{1,2}:\d{2} [AP]M$/, /^\w+day, \w+ \d{1,2}, \d{4}$/],
] as const) {
  test(`times are by the reader's clock, in ${locale}`, async ({ browser, server, talker }) => {
    const room = await makeRoom(server, "몇 시");
    await seed(browser, server, room, "철수", ["지금 몇 시?"]);
    // A quarter of an hour that neither Korea nor UTC has.
    const guest = await (await talker("영희", { locale, timezoneId: "Asia/Kathmandu" })).enter(room);
    await guest.say("글쎄");
    await guest.allStored(1);
    const times = guest.page.locator("#messageArea time");
    for (const when of ["live", "after a reload"]) {
      await expect(times, when).toHaveText([clock, clock]);
      await expect(guest.page.locator("#messageArea .day").first(), when).toHaveText(day);
      for (const time of [...(await times.all()), guest.rooms.locator("time")]) {
        const [hour, minute] = inKathmandu((await time.getAttribute("datetime")) ?? "");
        const twelve = `${hour % 12 || 12}:${String(minute).padStart(2, "0")}`;
        const korean = `${hour < 12 ? "오전" : "오후"} ${twelve}`;
        const english = `${twelve} ${hour < 12 ? "AM" : "PM"}`;
        await expect(time, when).toHaveText(locale === "ko-KR" ? korean : english);
      }
      await guest.page.reload();
      await guest.is("online");
    }
  });
}

for (const locale of ["ko-KR", "en-US"]) {
  for (const width of [1280, 360]) {
    test(`the head stands in one line in ${locale}, at ${width} px`, async ({ talker }) => {
      const viewport = { width, height: 740 };
      for (const name of ["", "영희", "이름이 아주 길어서 다 보일 수 없는 손님"]) {
        const guest = await (await talker(name, { locale, viewport })).list();
        const lines = await guest.page.locator(".head :is(.brand-name, a[hreflang], button bdi)").evaluateAll((all) =>
          all.map((element) => {
            const text = document.createRange();
            text.selectNodeContents(element);
            const tops = [...text.getClientRects()].map(({ top }) => Math.round(top));
            return `${element.textContent}: ${new Set(tops).size}`;
          }),
        );
        expect(lines).toHaveLength(3);
        expect(lines.filter((line) => !line.endsWith(": 1"))).toEqual([]);
        // The house's name has the room that it needs, and does not stand under a chip.
        const brand = guest.page.locator(".brand");
        expect(await brand.evaluate((element) => element.scrollWidth <= element.clientWidth)).toBe(true);
        if (name.length <= 2) {
          const chip = guest.page.locator(".head button bdi");
          expect(await chip.evaluate((element) => element.scrollWidth <= element.clientWidth)).toBe(true);
        }
      }
    });
  }
}
