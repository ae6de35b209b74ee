/// The version of everything in this package.
public enum MartletVersion {
    public static let number = "0.1.0"
    public static let text = "martlet \(number)"
}
