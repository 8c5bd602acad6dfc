import { defineConfig } from "@playwright/test";

import { chromium, type Options } from "./support/test.ts";

export default defineConfig<Options>({
  outputDir: "test-results",
  reporter: "list",
  workers: 2,
  fullyParallel: true,
  retries: 0,
  forbidOnly: Boolean(process.env.CI),
  timeout: 60_000,
  expect: { timeout: 15_000 },
  use: {
    launchOptions: chromium,
    locale: "ko-KR",
    timezoneId: "Asia/Seoul",
    viewport: { width: 1280, height: 800 },
    trace: "retain-on-failure",
  },
  // What takes five minutes begins first.
  projects: [
    { name: "hidden", testMatch: "hidden.spec.ts" },
    { name: "clients", testDir: "clients" },
    { name: "seen", testMatch: "*.spec.ts", testIgnore: "hidden.spec.ts" },
  ],
  testDir: "specs",
});
