import Wire

/// An authenticated connection: who it is, what it has asked, what it has been sent.
struct Session: Sendable {
    let caller: Caller
    /// Of the registration.
    var epoch: UInt64
    let tokenEpoch: UInt64
    let welcomedUS: UInt64
    let keepsOthers: Bool
    /// Of the lease that holds the registration; another one than the lease's means that it has to be made again.
    var life: UInt64
    /// `Instant.micros` when its token ends.
    let endsMicros: UInt64
    /// Calls on their way to services.
    var inFlight = 0
    /// Bytes of bodies waiting or on their way.
    var heldBytes = 0
    var keys = OrderedKeys()
    /// Keys that have frames but found no room in flight.
    var stalled: [String] = []
    var window = PushWindow()
    /// A push found the window full: SYNC_NEEDED follows when there is room.
    var owesSync = false

    init(_ registration: Registration, life: UInt64, endsMicros: UInt64) {
        var caller = Caller()
        caller.appID = registration.appID
        caller.userID = registration.userID
        caller.deviceID = registration.deviceID
        caller.platform = registration.platform
        caller.sessionID = registration.sessionID
        caller.loginID = registration.loginID
        self.caller = caller
        epoch = registration.epoch
        tokenEpoch = registration.tokenEpoch
        welcomedUS = registration.welcomedUs
        keepsOthers = registration.keepOthers
        self.life = life
        self.endsMicros = endsMicros
    }

    /// The next batch of a listed key; empty when it has none, or nothing more may be in flight: then the key stalls.
    mutating func takeBatch(_ key: String, _ config: LoginConfig) -> [OrderedKeys.Held] {
        let room = config.maxInFlight - inFlight
        guard room > 0 else {
            stalled.append(key)
            return []
        }
        return keys.takeBatch(key, most: room)
    }

    /// Keys that there may be room for again.
    mutating func takeStalled() -> [String] {
        guard !stalled.isEmpty else { return [] }
        defer { stalled = [] }
        return stalled
    }

    func registration(site: String) -> Registration {
        var registration = Registration()
        registration.appID = caller.appID
        registration.userID = caller.userID
        registration.deviceID = caller.deviceID
        registration.platform = caller.platform
        registration.sessionID = caller.sessionID
        registration.loginID = caller.loginID
        registration.site = site
        registration.epoch = epoch
        registration.tokenEpoch = tokenEpoch
        registration.welcomedUs = welcomedUS
        registration.keepOthers = keepsOthers
        return registration
    }
}
