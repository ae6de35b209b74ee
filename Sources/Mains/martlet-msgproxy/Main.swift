import ArgumentParser
import MartletSuite

@main
struct MartletMsgProxy: ServiceExecutable {
    static let role = "msgproxy"
    static let abstract = "Durable intake of messages."
    @OptionGroup var options: ServiceOptions
}
