import { useParams } from "react-router";
import "./order.css";

export default function Order() {
  return <h1>Order {useParams().id}</h1>;
}
