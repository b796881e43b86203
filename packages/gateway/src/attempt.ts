/** Carries a step out; what goes wrong is kept for later, so that the steps after it are carried out too. */
export async function attempt(step: () => unknown, failures: unknown[] = []): Promise<void> {
  try {
    await step();
  } catch (error) {
    failures.push(error);
  }
}
