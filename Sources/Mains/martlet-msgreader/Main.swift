import ArgumentParser
import MartletSuite

@main
struct MartletMsgReader: ServiceExecutable {
    static let role = "msgreader"
    static let abstract = "Pages, heads and unread counts."
    @OptionGroup var options: ServiceOptions
}
