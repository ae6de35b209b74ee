/// Times and limits of a Route.
public struct RouteConfig: Sendable, Equatable {
    /// A registration that is not repeated for this long is gone; services repeat theirs every second.
    public var leaseMS: UInt32 = 5000
    /// A Login that has not announced itself for this long is gone when it cannot be reached: two of its announcements
    /// may get lost, and deliveries to a dead Login wait no longer than this.
    public var loginLeaseMS: UInt32 = 3000
    /// How long after its start a Route answers `retry` where it would otherwise say that somebody does not exist:
    /// three announcements of everybody.
    public var learningMS: UInt32 = 3000
    /// What a caller that was told `retry` should wait.
    public var retryAfterMS: UInt32 = 300
    /// Failed hand-overs in a row after which an instance is skipped ...
    public var breakerFailures = 5
    /// ... for this long; then one failure more skips it again, one success clears it.
    public var breakerMS: UInt32 = 2000
    /// Longest wait for a service's answer, whatever the caller's deadline.
    public var upTimeoutMS: UInt32 = 5000
    /// Longest wait for a Login's answer: deliveries end with the client's push-ack, after 10 s at most.
    public var downTimeoutMS: UInt32 = 12_000
    /// Items of ServiceCalls not answered yet; more are refused with `overloaded`. A few seconds of full load.
    public var maxItems = 65_536
    /// Bytes of bodies in one call to a service, which must fit a frame between services; one caller's calls stay
    /// together, so the last caller may exceed it.
    public var bytesPerCall = 4 << 20
    /// Registrations (service, instance) at once.
    public var maxRegistrations = 65_536
    /// Repeatable methods of one service; they are searched one by one, and only after a failure.
    public var maxRepeatableMethods = 64

    public init() {}
}
