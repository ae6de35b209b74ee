/// Service ids that Martlet itself uses. 0 to 999 are Martlet's; an app's services start at 1000 and are (app, svid).
public enum WellKnownService {
    public static let im: UInt32 = 1
    public static let user: UInt32 = 4
    public static let online: UInt32 = 5
    public static let history: UInt32 = 6
    /// The first id that belongs to an app's own services.
    public static let firstOfApps: UInt32 = 1000
    /// Ids are 16 bits on the wire.
    public static let last: UInt32 = 65_535
}
