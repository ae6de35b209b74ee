import Machinery
import Wire

/// Limits of IM, with the contract's values as defaults.
public struct IMConfig: Sendable {
    /// The instance's name; Route knows it as "im/<instance>".
    public var instance: String
    /// How often it announces svid 1; Route forgets a silent instance after 5 s.
    public var announceMS: UInt32 = 1000
    /// Items in one send.
    public var itemsPerSend = 64
    /// Messages a second in one conversation, through this instance; as many at once.
    public var messagesPerSecond: Double = 200
    /// Typing hints a second of one user in one conversation; more are dropped.
    public var typingPerSecond: Double = 4
    /// How long "this user exists" is believed. Long, as users are not removed: a suspended one may be written to.
    public var userCacheMS: UInt64 = 60_000
    /// How long "this user does not exist" is believed: a user created after that can be written to.
    public var missingUserCacheMS: UInt64 = 1000
    /// How old a message may be that its sender takes back, by the row's time.
    public var recallWindowMS: UInt64 = 120_000
    /// Items inside this instance, waiting or being stored; past it calls are refused with `overloaded`.
    public var itemsHeld = 65_536
    /// Users and conversations remembered.
    public var cacheEntries = 65_536
    /// Records in one StoreMessages; a longer batch of one device stays together.
    public var recordsPerCall = 1024
    /// Items of one question to User or MsgReader.
    public var questionsPerCall = 500
    public var timeoutMS: UInt32 = 5000
    /// For tests of the checker only.
    public var fault = FaultHook()

    public init(instance: String) { self.instance = instance }
}
