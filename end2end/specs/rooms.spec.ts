import { makeRoom, seed } from "../support/api.ts";
import { ERROR_ANSWER, expect, test } from "../support/test.ts";

test("a new room is in everybody's list without a reload", async ({ talker }) => {
  const maker = await (await talker("영희")).list();
  const other = await (await talker("철수")).list();
  await expect(other.page.getByText("아직 방이 없습니다")).toBeVisible();
  await maker.page.locator("#roomName").fill("  책 이야기 ");
  await maker.page.getByRole("button", { name: "생성하기" }).click();
  for (const reader of [maker, other]) {
    await expect(reader.rooms).toHaveCount(1);
    await expect(reader.rooms.locator(".room-title")).toHaveText("책 이야기");
    await expect(reader.page.getByText("아직 방이 없습니다")).toBeHidden();
  }
  await expect(maker.page.locator("#roomName")).toHaveValue("");
  await other.rooms.first().click();
  await expect(other.page.locator("#room_name")).toHaveText("방제목 : 책 이야기");
  await expect(other.page).toHaveTitle(/책 이야기/);
  await expect(other.page).toHaveURL(/\/chat\/room\/enter\/[0-9a-f-]{36}$/);
  await expect(other.notices).toHaveText(["철수님이 입장하였습니다."]);
});

test("two rooms may have one name, and each has its own talk", async ({ talker }) => {
  const guest = await (await talker("영희")).list();
  for (const count of [1, 2]) {
    await guest.page.locator("#roomName").fill("같은 이름");
    await guest.page.locator("#roomName").press("Enter");
    await expect(guest.rooms).toHaveCount(count);
  }
  await guest.rooms.first().click();
  await guest.is("online");
  await guest.say("첫째 방");
  await guest.allStored(1);
  await guest.page.locator("#roomListTable a:not([aria-current])").click();
  await expect(guest.bubbles).toHaveCount(0);
  await guest.say("둘째 방");
  await guest.sees(["둘째 방"]);
});

for (const [what, name, reason] of [
  ["nothing", "", /한 글자 이상/],
  ["spaces", "   ", /한 글자 이상/],
  ["101 characters", "방".repeat(101), /100자까지.*101자/],
  ["a control character", "방\u0000", /제어 문자/],
] as const) {
  test(`a room's name of ${what} is refused with words`, async ({ talker }) => {
    const guest = await (await talker("영희")).list();
    const field = guest.page.locator("#roomName");
    await field.fill(name);
    await guest.page.getByRole("button", { name: "생성하기" }).click();
    await expect(guest.page.getByRole("alert")).toHaveText(reason);
    await expect(field).toHaveAccessibleDescription(reason);
    await expect(field).toHaveValue(name);
    await expect(field).toBeFocused();
    await expect(guest.rooms).toHaveCount(0);
    await field.fill("방".repeat(100));
    await field.press("Enter");
    await expect(guest.rooms).toHaveCount(1);
    await expect(guest.page.getByRole("alert")).toHaveCount(0);
  });
}

test("hostile names are text", async ({ talker }) => {
  const names = [
    "<script>document.title='ran'</script>",
    "<img src=x onerror=document.title='ran'>",
    "\"'&lt;b&gt;",
    "\u202Eotni gnihtemos\u2066",
    "</bdi></a></ul>",
    "😀".repeat(100),
  ];
  const guest = await (await talker("영희")).list();
  for (const [index, name] of names.entries()) {
    await guest.page.locator("#roomName").fill(name);
    await guest.page.locator("#roomName").press("Enter");
    await expect(guest.rooms).toHaveCount(index + 1);
  }
  const shown = [...names].reverse();
  await expect(guest.rooms.locator(".room-title")).toHaveText(shown);
  await guest.page.reload();
  await guest.is("online");
  await expect(guest.rooms.locator(".room-title")).toHaveText(shown);
  await expect(guest.page).toHaveTitle("방 목록 · 사랑방");
  for (const [index, name] of shown.entries()) {
    await guest.rooms.nth(index).click();
    await expect(guest.page.locator("#room_name bdi")).toHaveText(name);
    await guest.page.reload();
    await expect(guest.page.locator("#room_name bdi")).toHaveText(name);
    await guest.is("online");
    await expect(guest.page).not.toHaveTitle("ran");
  }
});

test("what one types while a room is being made stays, and is made", async ({ talker }) => {
  const guest = await (await talker("영희")).list();
  const field = guest.page.locator("#roomName");
  let answer = () => {};
  const held = new Promise<void>((resolve) => (answer = resolve));
  await guest.page.route("**/chat/room", async (route) => {
    const response = await route.fetch();
    await held;
    await route.fulfill({ response });
  });
  await field.fill("하나");
  await field.press("Enter");
  // The list has it before the answer has come; to send it twice makes one.
  await expect(guest.rooms).toHaveCount(1);
  await field.press("Enter");
  await field.fill("둘");
  const answered = guest.page.waitForResponse("**/chat/room");
  answer();
  await answered;
  await expect(guest.page.getByRole("button", { name: "생성하기" })).toHaveAttribute("aria-busy", "false");
  await expect(field).toHaveValue("둘");
  await field.press("Enter");
  await expect(guest.rooms.locator(".room-title")).toHaveText(["둘", "하나"]);
  await expect(field).toHaveValue("");
});

test("the room of the newest message comes first, with its count", async ({ browser, server, talker }) => {
  const first = await makeRoom(server, "하나");
  const second = await makeRoom(server, "둘");
  const third = await makeRoom(server, "셋");
  const guest = await (await talker("영희")).list();
  const titles = guest.rooms.locator(".room-title");
  await expect(titles).toHaveText(["셋", "둘", "하나"]);
  await expect(guest.rooms.first()).toContainText("아직 메시지가 없습니다");
  await seed(browser, server, first, "철수", ["가", "나"]);
  await expect(titles).toHaveText(["하나", "셋", "둘"]);
  await expect(guest.rooms.first()).toContainText("메시지 2개");
  await seed(browser, server, second, "철수", ["다"]);
  await expect(titles).toHaveText(["둘", "하나", "셋"]);
  await expect(guest.rooms.first()).toContainText("메시지 1개");
  // The same when the server renders it.
  const html = await (await fetch(`${server.address}/chat/room`)).text();
  const order = [second, first, third].map(({ roomId }) => html.indexOf(`/chat/room/enter/${roomId}`));
  expect(order).toEqual([...order].sort((a, b) => a - b));
  expect(order[0]).toBeGreaterThan(0);
});

test("to enter is no message: counts and order stay", async ({ server, talker }) => {
  await makeRoom(server, "먼저");
  const later = await makeRoom(server, "나중");
  const watcher = await (await talker("철수")).list();
  const guest = await (await talker("영희")).list();
  await guest.page.getByRole("link", { name: "먼저" }).click();
  await expect(guest.notices).toHaveCount(1);
  await expect(watcher.rooms.locator(".room-title")).toHaveText([later.roomName, "먼저"]);
  await expect(watcher.rooms.filter({ hasText: "먼저" })).toContainText("아직 메시지가 없습니다");
});

test.describe("too many rooms", () => {
  test.use({ provoked: /status of 429/ });

  test("are refused with words, and what was typed stays", async ({ server, talker }) => {
    const guest = await (await talker("영희")).list();
    const alert = guest.page.getByRole("alert");
    await expect(async () => {
      await guest.page.locator("#roomName").fill("하나 더");
      // One more each second is allowed: what is left is taken right before.
      while (await makeRoom(server, "방").then(Boolean, () => false));
      await guest.page.getByRole("button", { name: "생성하기" }).click();
      await expect(alert).toHaveText(/너무 잦습니다/, { timeout: 1_000 });
    }).toPass();
    await expect(guest.page.locator("#roomName")).toHaveValue("하나 더");
  });
});

test.describe("a room's name that only the server refuses", () => {
  test.use({ provoked: ERROR_ANSWER });

  test("is answered with words", async ({ talker }) => {
    const guest = await (await talker("영희")).list();
    await guest.page.route("**/chat/room", (route) =>
      route.request().method() === "POST"
        ? route.fulfill({
            status: 422,
            contentType: "application/problem+json",
            json: { type: "about:blank", title: "Unprocessable", status: 422, detail: "`roomName` is odd" },
          })
        : route.fallback(),
    );
    await guest.page.locator("#roomName").fill("이상한 이름");
    await guest.page.locator("#roomName").press("Enter");
    await expect(guest.page.getByRole("alert")).toHaveText(/고쳐서/);
    await expect(guest.page.locator("#roomName")).toHaveValue("이상한 이름");
  });
});

test.describe("very many rooms", () => {
  test.use({ options: ["--room-rate", "0"] });

  test("a page has fifty, a link leads to the others, and what comes is shown", async ({
    server,
    talker,
  }) => {
    for (let number = 0; number < 60; number++) {
      await makeRoom(server, `방 ${number}`);
    }
    const guest = await (await talker("영희")).list();
    await guest.is("online");
    await expect(guest.rooms).toHaveCount(50);
    await expect(guest.rooms.first()).toContainText("방 59");
    await makeRoom(server, "새 방");
    await expect(guest.rooms.first()).toContainText("새 방");
    await expect(guest.rooms).toHaveCount(51);
    await guest.page.getByRole("link", { name: "이전 방 보기" }).click();
    await expect(guest.rooms.filter({ hasText: "방 0" })).toBeVisible();
    await expect(guest.page.getByRole("link", { name: "이전 방 보기" })).toHaveCount(0);
  });

  test("are found by a part of the name, also without scripts", async ({ browser, server, talker }) => {
    const wanted = await makeRoom(server, "김치찌개 모임");
    for (let number = 0; number < 60; number++) {
      await makeRoom(server, `방 ${number}`);
    }
    const guest = await (await talker("영희")).list();
    await expect(guest.rooms).toHaveCount(50);
    const field = guest.page.getByRole("searchbox", { name: "방 찾기" });
    await field.fill("찌개");
    await field.press("Enter");
    await expect(guest.rooms.locator(".room-title")).toHaveText(["김치찌개 모임"]);
    await expect(field).toHaveValue("찌개");
    await guest.is("online");
    // What is found lives on, and what is made does not belong to it.
    await makeRoom(server, "새 방");
    await seed(browser, server, wanted, "철수", ["맛있어요"]);
    await expect(guest.rooms).toContainText(["메시지 1개"]);
    await expect(guest.rooms).toHaveCount(1);
    await field.fill("방");
    await field.press("Enter");
    await expect(guest.rooms).toHaveCount(50);
    await guest.page.getByRole("link", { name: "이전 방 보기" }).click();
    await expect(guest.rooms).toHaveCount(11);
    await field.fill("\"><b>없는");
    await field.press("Enter");
    await expect(guest.page.getByText("그런 방이 없습니다.")).toBeVisible();
    await expect(field).toHaveValue("\"><b>없는");
  });
});
