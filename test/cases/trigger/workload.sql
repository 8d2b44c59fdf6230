$$
CREATE TRIGGER trigger_sold AFTER INSERT ON trigger_sale FOR EACH ROW
BEGIN
  UPDATE trigger_stock SET n = n - NEW.n WHERE article = NEW.article;
  INSERT INTO trigger_log (what) VALUES (CONCAT('sold ', NEW.n, ' of ', NEW.article));
END
$$
CREATE TRIGGER trigger_round BEFORE INSERT ON trigger_sale FOR EACH ROW SET NEW.n = NEW.n * 2;
INSERT INTO trigger_sale (article, n) VALUES (1, 3), (2, 4);
DROP TRIGGER trigger_round;
INSERT INTO trigger_sale (article, n) VALUES (1, 1);
