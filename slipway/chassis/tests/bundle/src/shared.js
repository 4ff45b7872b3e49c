export const shared = (w) => `The bundle is ${w}`;
