export * from 'driftlock'
