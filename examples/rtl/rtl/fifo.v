// A synchronous FIFO with one clock, any depth, and the count of words in it.
module fifo #(
    parameter WIDTH = 8,
    parameter DEPTH = 16
) (
    input  wire             clk,
    input  wire             rst,
    input  wire             push,
    input  wire [WIDTH-1:0] din,
    input  wire             pop,
    output wire [WIDTH-1:0] dout,
    output wire             full,
    output wire             empty
);
    reg [WIDTH-1:0] memory [0:DEPTH-1];
    reg [31:0] head;
    reg [31:0] tail;
    reg [31:0] count;

    assign full  = (count == DEPTH);
    assign empty = (count == 0);
    assign dout  = memory[tail];

    wire do_push = push && !full;
    wire do_pop  = pop && !empty;

    always @(posedge clk) begin
        if (rst) begin
            head  <= 0;
            tail  <= 0;
            count <= 0;
        end else begin
            if (do_push) begin
                memory[head] <= din;
                head <= (head == DEPTH - 1) ? 0 : head + 1;
            end
            if (do_pop)
                tail <= (tail == DEPTH - 1) ? 0 : tail + 1;
            count <= count + do_push - do_pop;
        end
    end
endmodule
