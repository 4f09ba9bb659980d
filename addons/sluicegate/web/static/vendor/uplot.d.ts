declare class uPlot {
  constructor(options: any, data: any[], parent: Element);
  static paths: Record<string, (options?: any) => any>;
  cursor: { idx: number | null };
  setData(data: any[]): void;
  setSize(size: { width: number; height: number }): void;
  destroy(): void;
}
export default uPlot;
