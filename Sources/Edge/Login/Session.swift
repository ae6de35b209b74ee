import Wire

/// An authenticated connection: who it is, what it has asked, what it has been sent.
struct Session: Sendable {
    let caller: Caller
    /// Of the registration.
    var epoch: UInt64
    let tokenEpoch: UInt64
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

    init(caller: Caller, epoch: UInt64, tokenEpoch: UInt64) {
        self.caller = caller
        self.epoch = epoch
        self.tokenEpoch = tokenEpoch
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
        return registration
    }
}
