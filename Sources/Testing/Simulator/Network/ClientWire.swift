import Wire

/// One TCP connection between a device and a Login, as both ends and the way between them see it.
struct ClientWire {
    /// Frames in one direction that their reader does not take at the moment.
    struct Pipe {
        /// When the last frame arrives: none overtakes another.
        var lastArrival: UInt64 = 0
        var waiting: [Frame] = []
        var bytes = 0
    }

    let device: String
    /// The device's own number for it.
    let number: UInt64
    let login: String
    var up = Pipe()
    var down = Pipe()
    /// Written by Login and not flushed yet.
    var gathered: [Frame] = []
    /// Login will close its side at the next flush.
    var finishing = false
    /// Nothing passes any more.
    var isCut = false
    /// Cut without anybody being told: each end has to find out by itself.
    var isSilent = false
    /// Whether the ends have been told, or have said, that it is over.
    var loginKnows = false
    var deviceKnows = false
    /// Whether the ends take frames out of their pipes.
    var loginReads = true
    var deviceReads = true
    /// Login has been told that the device does not read.
    var isStuck = false

    var isOver: Bool { loginKnows && deviceKnows }
}
