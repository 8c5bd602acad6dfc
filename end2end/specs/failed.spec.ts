import type { WebSocketRoute } from "@playwright/test";

import { makeRoom, said } from "../support/api.ts";
import { expect, test } from "../support/test.ts";
import type { Talker } from "../support/talker.ts";

/** Refuses the next TALK in the server's place, as the server would. */
async function refuseNextTalk(guest: Talker, status: number, detail: string): Promise<void> {
  let refused = false;
  await guest.page.routeWebSocket("**/ws/chat", (socket: WebSocketRoute) => {
    const server = socket.connectToServer();
    socket.onMessage((data) => {
      const receipt = /^receipt:(talk-.*)$/m.exec(String(data))?.[1];
      if (receipt === undefined || refused) {
        server.send(data);
        return;
      }
      refused = true;
      const problem = { type: "about:blank", title: "refused", status, detail, receiptId: receipt };
      const headers = "subscription:errors\nmessage-id:1\ndestination:/user/queue/errors";
      socket.send(`MESSAGE\n${headers}\n\n${JSON.stringify(problem)}\0`);
    });
  });
}

for (const [locale, words, again] of [
  ["ko-KR", "내용을 받아들일 수 없습니다", "다시 보내기"],
  ["en-US", "It was not accepted as it is", "Send again"],
]) {
  test(`a refused message says why and can be sent again, in ${locale}`, async ({ server, talker }) => {
    const room = await makeRoom(server, "거절");
    const reader = await (await talker("철수")).enter(room);
    const guest = await talker("영희", { locale });
    await refuseNextTalk(guest, 422, "`message` is odd");
    await guest.enter(room);
    await guest.say("하나");
    await expect(guest.own).toHaveAttribute("data-state", "failed");
    await expect(guest.own).toContainText(words);
    await guest.say("둘");
    await reader.sees(["둘"]);
    await guest.page.getByRole("button", { name: again }).press("Enter");
    await guest.allStored(2);
    await guest.sees(["둘", "하나"]);
    await reader.sees(["둘", "하나"]);
    expect(await said(server, room)).toEqual(["둘", "하나"]);
    await expect(guest.page.getByRole("button", { name: again })).toHaveCount(0);
  });
}
