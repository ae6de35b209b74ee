extension UInt64 {
    /// How long after `earlier` this is; 0 when it is not. Times that two threads read may arrive in either order, and
    /// an unsigned difference below zero ends the process.
    public func since(_ earlier: UInt64) -> UInt64 { self > earlier ? self - earlier : 0 }
}
