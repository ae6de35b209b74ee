/// Limits of a PushWorker.
public struct PushWorkerConfig: Sendable, Equatable {
    /// Deliveries held at a time; a plan that would exceed it is refused with `overloaded`.
    public var maxDeliveries = 131_072
    /// Bytes of message bodies held at a time; the same.
    public var maxBytes = 128 << 20
    /// Deliveries in one DeliverRequest.
    public var requestDeliveries = 256
    public var deliverTimeoutMS: UInt32 = 1500
    /// Longer than Online waits for the presence store.
    public var lookupTimeoutMS: UInt32 = 4500
    /// A plan is answered this long before its caller's deadline, with what is settled by then.
    public var answerEarlyMS: UInt64 = 500
    public var retryFirstMS: UInt64 = 300
    public var retryMostMS: UInt64 = 5000
    /// How often due repeats are looked for while there are any.
    public var tickMS: UInt32 = 50
    /// Sessions remembered as slow; their deliveries travel alone and delay nobody else's answer.
    public var maxSlowSessions = 4096
    /// A fault for tests: the n-th DeliverRequest (from 1) is lost on its way, once.
    public var dropOnce: Int?

    public init() {}
}
