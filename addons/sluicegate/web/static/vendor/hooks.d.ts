type Set<S> = (value: S | ((old: S) => S)) => void;
type Effect = () => void | (() => void);

// A state or reference that begins empty may hold anything later.
export function useState(initial?: null): [any, (value: any) => void];
export function useState<S>(initial: S | (() => S)): [S, Set<S>];
export function useEffect(effect: Effect, inputs?: readonly any[]): void;
export function useLayoutEffect(effect: Effect, inputs?: readonly any[]): void;
export function useMemo<T>(make: () => T, inputs: readonly any[]): T;
export function useCallback<T extends (...given: any[]) => any>(callback: T, inputs: readonly any[]): T;
export function useRef(initial?: null): { current: any };
export function useRef<T>(initial: T): { current: T };
export function useErrorBoundary(callback?: (error: any) => void): [any, () => void];
export function useId(): string;
