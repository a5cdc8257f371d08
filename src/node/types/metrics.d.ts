/** What {@link metrics} answers: plain data that can be sent anywhere. Lists keep their order. */
export interface Metrics {
  /** What is counted. */
  counters: CounterFamily[]
  /** What is measured: durations, in seconds. */
  histograms: HistogramFamily[]
}

/** A counter with all of its series. */
export interface CounterFamily {
  /** `driftlock_process_…_total`. */
  name: string
  /** What it counts, in one sentence. */
  help: string
  /** One for each combination of the labels' values, which come from closed lists; what is on no list is `other`. */
  series: CounterSeries[]
}

/** One series of a counter. */
export interface CounterSeries {
  /** What tells it from the others, such as `{ result: 'acquired' }`. */
  labels: Record<string, string>
  /** How many there were since the process started; it never falls. */
  value: number
}

/** A histogram with all of its series. */
export interface HistogramFamily {
  /** `driftlock_process_…_seconds`. */
  name: string
  /** What it measures, in one sentence. */
  help: string
  /** One for each combination of the labels' values. */
  series: HistogramSeries[]
}

/** One series of a histogram. */
export interface HistogramSeries {
  /** What tells it from the others, such as `{ operation: 'acquire' }`. */
  labels: Record<string, string>
  /** By rising limits. What is above the last one is in `count` alone. */
  buckets: HistogramBucket[]
  /** All durations together, in seconds. */
  sum: number
  /** How many durations there were. */
  count: number
}

/** How many durations were at most as long as a limit: those of the buckets before included. */
export interface HistogramBucket {
  /** The limit, in seconds. */
  le: number
  /** How many there were. */
  count: number
}

/**
 * {@link metrics} in Prometheus' text format, to be served as `text/plain; version=0.0.4`. The names begin with
 * `driftlock_process_`, apart from the totals of all processes that `driftlock exporter` serves: those add up, these
 * are about one process.
 */
export declare function metricsText(): string

/** For {@link registerOpenTelemetry}. */
export interface OpenTelemetryOptions {
  /**
   * Where the instruments are registered: a `MeterProvider` of OpenTelemetry's. Default the global one of
   * `@opentelemetry/api`, which has to be set before.
   */
  meterProvider?: { getMeter(name: string, version?: string): unknown }
}

/** What was registered with OpenTelemetry. */
export interface OpenTelemetryRegistration {
  /** Ends the observation: the instruments tell nothing new. May be called again. */
  stop(): void
}

/**
 * Shows {@link metrics} to OpenTelemetry, as observable counters that are read whenever a reader collects: of each
 * counter one by its name without `_total`, of each histogram `<name>_count` and `<name>_sum` (OpenTelemetry has no
 * observable histogram, so the buckets are only in {@link metrics}). The labels are attributes.
 *
 * The figures are those of the whole process: register in one of its threads only. Needs the package
 * `@opentelemetry/api` unless a meter provider is given.
 *
 * @throws {DriftlockError} `OPENTELEMETRY_MISSING` if `@opentelemetry/api` is not installed; `INVALID_ARGUMENT` if
 * `meterProvider` is none
 */
export declare function registerOpenTelemetry(options?: OpenTelemetryOptions): OpenTelemetryRegistration
