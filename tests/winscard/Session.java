import java.util.List;
import javax.smartcardio.Card;
import javax.smartcardio.CardChannel;
import javax.smartcardio.CardTerminal;
import javax.smartcardio.CommandAPDU;
import javax.smartcardio.ResponseAPDU;
import javax.smartcardio.TerminalFactory;

/** A program with javax.smartcardio: terminals, a card, exchanges, a transaction, a control code. */
public class Session {
    static void check(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    public static void main(String[] arguments) throws Exception {
        List<CardTerminal> terminals = TerminalFactory.getDefault().terminals().list();
        check(terminals.size() == 1, "one terminal: " + terminals);
        CardTerminal terminal = terminals.get(0);
        check(terminal.isCardPresent() && terminal.waitForCardPresent(1000), "a card is there");
        check(!terminal.waitForCardAbsent(50), "it stays there");
        Card card = terminal.connect("*");
        check(card.getProtocol().equals("T=1"), card.getProtocol());
        check(card.getATR().getBytes().length == 15, "ATR");
        CardChannel channel = card.getBasicChannel();
        ResponseAPDU echo = channel.transmit(new CommandAPDU(0, 0x10, 0, 0, new byte[] {1, 2, 3}));
        check(echo.getSW() == 0x9000 && echo.getData().length == 3, echo.toString());
        ResponseAPDU extended = channel.transmit(new CommandAPDU(0, 0x12, 0x03, 0xE8, 1000));
        check(extended.getSW() == 0x9000 && extended.getData().length == 1000, extended.toString());
        card.beginExclusive();
        check(channel.transmit(new CommandAPDU(0, 0x10, 0, 0, new byte[] {4})).getSW() == 0x9000, "within");
        card.endExclusive();
        check(card.transmitControlCommand(0x42000D48, new byte[0]).length > 0, "features");
        card.disconnect(true);
        System.out.println("ok");
    }
}
