import { makeRoom, seed } from "../support/api.ts";
import { expect, test } from "../support/test.ts";
import { Talker } from "../support/talker.ts";

test("who takes the name of one who has left does not get their words", async ({ server, talker }) => {
  const room = await makeRoom(server, "같은 이름");
  const first = await (await talker("영희")).enter(room);
  await first.say("나는 첫째");
  await first.allStored(1);
  await first.page.getByRole("button", { name: "나가기" }).click();
  const second = await (await talker("영희")).enter(room);
  await second.sees(["나는 첫째"]);
  await expect(second.own).toHaveCount(0);
  await second.say("나는 둘째");
  await second.allStored(1);
  await second.page.reload();
  await second.is("online");
  await expect(second.own.locator(".bubble")).toHaveText(["나는 둘째"]);
  // Neither are the later one's words the first one's.
  await first.rooms.first().click();
  await first.sees(["나는 첫째", "나는 둘째"]);
  await expect(first.own.locator(".bubble")).toHaveText(["나는 첫째"]);
  // Of two guests with one name each run says whose it is.
  await expect(first.page.locator("#messageArea [data-own=false][data-opens=true] .sender")).toHaveText(["영희"]);
});

test("one's words stay one's own under a new name, in history and in every tab", async ({ server, talker }) => {
  const room = await makeRoom(server, "새 이름");
  const guest = await (await talker("영희")).enter(room);
  await guest.say("옛 이름으로");
  await guest.allStored(1);
  await guest.page.getByTitle("이름 바꾸기").click();
  await guest.name.fill("영이");
  await guest.name.press("Enter");
  await guest.say("새 이름으로");
  await guest.allStored(2);
  const tab = new Talker(await guest.page.context().newPage(), "영이");
  await tab.enter(room);
  await tab.allStored(2);
  await guest.page.reload();
  await guest.is("online");
  await guest.allStored(2);
  await tab.say("다른 탭에서");
  await guest.allStored(3);
});

test("what a program says under one's name is the program's", async ({ browser, server, talker }) => {
  const room = await makeRoom(server, "사칭");
  await seed(browser, server, room, "영희", ["내가 영희다"]);
  const guest = await (await talker("영희")).enter(room);
  await guest.sees(["내가 영희다"]);
  await expect(guest.own).toHaveCount(0);
});

test("what one said long ago is one's own on the way up", async ({ browser, server, talker }) => {
  const room = await makeRoom(server, "옛말");
  const guest = await (await talker("영희")).enter(room);
  await guest.say("맨 처음");
  await guest.allStored(1);
  await seed(browser, server, room, "철수", Array.from({ length: 60 }, (_, n) => `${n}`));
  await guest.page.reload();
  await guest.is("online");
  await expect(guest.own).toHaveCount(0);
  // On the way up they come by themselves.
  await guest.page.locator(".log-scroll").evaluate((log) => log.scrollTo(0, -log.scrollHeight));
  await guest.allStored(1);
});

test("the server's page shows nobody's own side", async ({ server, talker }) => {
  const room = await makeRoom(server, "모두의 것");
  const guest = await (await talker("영희")).enter(room);
  await guest.say("안녕");
  await guest.allStored(1);
  const html = await (await guest.page.request.get(guest.page.url())).text();
  expect(html).toContain('data-own="false"');
  expect(html).not.toContain('data-own="true"');
});
